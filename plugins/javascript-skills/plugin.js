// Routes a call to the cheapest service with the skills of the dialled number.
//
// The settings, `javascript-skills.toml`, have the skills that each number needs, and
// the skills and the cost of each service. Calls alternate between services of equal
// cost if the operator grants `kv`; otherwise the first service gets all of them.

import { get } from 'plugboard:plugin/config@0.1.0';
import { increment } from 'plugboard:plugin/kv@0.1.0';
import { write } from 'plugboard:plugin/log@0.1.0';

import { candidates } from './candidates.js';
import { explained } from './failures.js';

/**
 * Time to live of a cached decision, in milliseconds. A change of the settings empties
 * the cache, so this only limits the cache's size. (64-bit numbers of the contract are
 * numbers here, not `bigint` as in the generated types.)
 */
const TTL = 300_000;

/** The hook `router` of the contract. */
export const router = { decide: explained(decide) };

/** @param {import('plugboard:plugin/router@0.1.0').Call} call */
function decide(call) {
    const numbers = setting('numbers');
    const number = call.to ?? '';
    // The caller can dial any text, such as `toString`.
    if (!Object.hasOwn(numbers, number)) {
        return { verdict: { tag: 'pass' }, cache: { ttl: TTL, vary: ['to'] } };
    }
    const skills = numbers[number];
    const able = candidates(setting('services'), skills);
    if (able.length === 0) {
        write('warn', `no service has all of: ${skills.join(', ')}`);
        return { verdict: { tag: 'pass' }, cache: undefined };
    }
    const { sts_url: stsUrl, prompt } = able[nextIndex(able.length, skills)];
    // A route that alternates is not cached.
    const cache = able.length === 1 ? { ttl: TTL, vary: ['to'] } : undefined;
    return { verdict: { tag: 'route', val: { stsUrl, prompt } }, cache };
}

/** Returns the index of the next service, if `count` services are equal. */
function nextIndex(count, skills) {
    if (count === 1) {
        return 0;
    }
    try {
        return increment(`turn/${[...skills].sort().join('/')}`, 1, undefined) % count;
    } catch (error) {
        // The call is routed even if the counter is not available.
        write('debug', `no counter, so the first service takes the call: ${error.payload?.tag}`);
        return 0;
    }
}

/** Returns a table or list of the settings, which the host passes as JSON. */
function setting(key) {
    const text = get(key);
    if (text == null) {
        // An error is a failure of the plugin, and the host logs its message.
        throw new Error(`the settings lack config.${key}`);
    }
    return JSON.parse(text);
}
