// Sends a call to the cheapest service that can do what the number dialled needs.
//
// The settings say which skills a number needs, and which skills the services have,
// and at what cost. Services that cost the same take turns, if the operator grants
// `kv`; otherwise the first one takes all. `javascript-skills.toml` has the settings.

import { get } from 'plugboard:plugin/config@0.1.0';
import { increment } from 'plugboard:plugin/kv@0.1.0';
import { write } from 'plugboard:plugin/log@0.1.0';

import { candidates } from './candidates.js';
import { explained } from './failures.js';

/**
 * For how long the host may answer from its cache, in milliseconds. A change of the
 * settings empties it, so this only bounds its size. (The contract's 64-bit numbers
 * are numbers here, and not `bigint` as the generated types have it.)
 */
const TTL = 300_000;

/** The hook `router` of the contract. */
export const router = { decide: explained(decide) };

/** @param {import('plugboard:plugin/router@0.1.0').Call} call */
function decide(call) {
    const numbers = setting('numbers');
    const number = call.to ?? '';
    // Whatever a caller dials: `toString` is no number of ours.
    if (!Object.hasOwn(numbers, number)) {
        return { verdict: { tag: 'pass' }, cache: { ttl: TTL, vary: ['to'] } };
    }
    const skills = numbers[number];
    const able = candidates(setting('services'), skills);
    if (able.length === 0) {
        write('warn', `no service has all of: ${skills.join(', ')}`);
        return { verdict: { tag: 'pass' }, cache: undefined };
    }
    const { sts_url: stsUrl, prompt } = able[turn(able.length, skills)];
    // Those that take turns are asked for anew each time.
    const cache = able.length === 1 ? { ttl: TTL, vary: ['to'] } : undefined;
    return { verdict: { tag: 'route', val: { stsUrl, prompt } }, cache };
}

/** Whose turn it is among so many that can do the same. */
function turn(count, skills) {
    if (count === 1) {
        return 0;
    }
    try {
        return increment(`turn/${[...skills].sort().join('/')}`, 1, undefined) % count;
    } catch (error) {
        // No call is lost for want of a counter.
        write('debug', `the first one takes it, as there is no counter: ${error.payload?.tag}`);
        return 0;
    }
}

/** A table or list of the settings, which comes as JSON. */
function setting(key) {
    const text = get(key);
    if (text == null) {
        // What is thrown is a failure of the plugin, and its words are logged.
        throw new Error(`the settings have no config.${key}`);
    }
    return JSON.parse(text);
}
