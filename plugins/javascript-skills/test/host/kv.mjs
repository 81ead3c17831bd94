/** Whether the settings grant it, for a test to set, and the values. */
export const store = { granted: true, values: new Map() };

export function increment(key, by) {
    if (!store.granted) {
        // As the contract's errors come: the case is the payload.
        throw Object.assign(new Error('kv'), { payload: { tag: 'not-granted' } });
    }
    const sum = (store.values.get(key) ?? 0) + by;
    store.values.set(key, sum);
    return sum;
}
