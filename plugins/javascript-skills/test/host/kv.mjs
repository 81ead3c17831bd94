/** The grant of `kv`, which the tests set, and the values. */
export const store = { granted: true, values: new Map() };

export function increment(key, by) {
    if (!store.granted) {
        // Errors of the contract have their case as payload.
        throw Object.assign(new Error('kv'), { payload: { tag: 'not-granted' } });
    }
    const sum = (store.values.get(key) ?? 0) + by;
    store.values.set(key, sum);
    return sum;
}
