/** The logged lines, each with level and message. */
export const lines = [];

export function write(level, message) {
    lines.push([level, message]);
}
