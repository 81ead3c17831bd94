import { write } from 'plugboard:plugin/log@0.1.0';

/**
 * Wraps a hook so that it logs the stack of an error. The host gets only the message of
 * an error, not the stack.
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
