import { write } from 'plugboard:plugin/log@0.1.0';

/**
 * A hook that says in the log where it failed. The host is told the message of what
 * is thrown, and nothing of the way that led there.
 *
 * @template {(...values: any[]) => any} Hook
 * @param {Hook} hook
 * @returns {Hook}
 */
export function explained(hook) {
    return (...values) => {
        try {
            return hook(...values);
        } catch (error) {
            if (error instanceof Error) {
                write('error', `${error}\n${error.stack}`);
                throw error.message;
            }
            throw error;
        }
    };
}
