// Resolves the interfaces of the contract to the fake host: `plugboard:plugin/kv@0.1.0`
// is `host/kv.mjs`.

import { register } from 'node:module';

const resolve = `
    export async function resolve(specifier, context, next) {
        const name = /^plugboard:plugin\\/([a-z]+)@/.exec(specifier)?.[1];
        if (name === undefined) {
            return next(specifier, context);
        }
        const url = new URL('./host/' + name + '.mjs', ${JSON.stringify(import.meta.url)});
        return { url: url.href, shortCircuit: true };
    }
`;
register(`data:text/javascript,${encodeURIComponent(resolve)}`);
