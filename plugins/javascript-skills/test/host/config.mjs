/** The settings, which the tests set: values as in the TOML file. */
export const settings = new Map();

export function get(key) {
    const value = settings.get(key);
    return value === undefined || typeof value === 'string' ? value : JSON.stringify(value);
}
