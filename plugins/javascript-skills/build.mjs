// Builds a component from plugin.js, or from another file:
//
//     node build.mjs [FILE] [--wit FOLDER] [--out FILE]
//
// `--wit` is the folder of the contract, for a plugin outside Plugboard's repository.

import { readFile, writeFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { componentize } from 'componentize-qjs';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
        wit: { type: 'string', default: here('../../wit') },
        out: { type: 'string', default: here('javascript-skills.wasm') },
    },
});
const source = resolve(positionals[0] ?? here('plugin.js'));
const { component } = await componentize({
    jsSource: await readFile(source, 'utf8'),
    jsPath: source,
    moduleRoot: dirname(source),
    witPath: values.wit,
    // The world of the hook `router`; wit/worlds.wit has the others. Each has all imports.
    world: 'router-plugin',
    // The host supports WASI 0.2, which has no asynchronous functions.
    sync: true,
});
await writeFile(values.out, component);
