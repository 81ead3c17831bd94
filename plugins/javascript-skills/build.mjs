// Makes a component of plugin.js, or of another file:
//
//     node build.mjs [FILE] [--wit FOLDER] [--out FILE]
//
// `--wit` is the contract, where this folder is not in Plugboard's repository.

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
    // Has everything that a plugin may import. Those of other hooks: wit/worlds.wit.
    world: 'router-plugin',
    // The host speaks WASI 0.2, where nothing is asynchronous.
    sync: true,
});
await writeFile(values.out, component);
