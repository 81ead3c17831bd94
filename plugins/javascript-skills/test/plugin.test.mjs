// Tests that run natively against a fake host: `npm test`.

import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';

import { router } from '../plugin.js';
import { settings } from './host/config.mjs';
import { store } from './host/kv.mjs';
import { lines } from './host/log.mjs';

beforeEach(() => {
    settings.set('numbers', { 1: ['sales'], 2: ['sales', 'italian'], 3: ['support'], 4: ['flying'] });
    settings.set('services', [
        { sts_url: 'ws://all', skills: ['sales', 'support', 'italian'], cost: 30, prompt: 'All.' },
        { sts_url: 'ws://first', skills: ['sales', 'support'], cost: 10 },
        { sts_url: 'ws://second', skills: ['support'], cost: 10 },
    ]);
    store.granted = true;
    store.values.clear();
    lines.length = 0;
});

const decide = (to) => router.decide({ id: '1', platform: 'avr', to, metadata: [] });
const url = (to) => decide(to).verdict.val?.stsUrl;

test('cheapest service with all skills takes the call', () => {
    assert.equal(url('1'), 'ws://first');
    assert.deepEqual(decide('2'), {
        verdict: { tag: 'route', val: { stsUrl: 'ws://all', prompt: 'All.' } },
        cache: { ttl: 300_000, vary: ['to'] },
    });
});

test('calls alternate between services of equal cost, without caching', () => {
    assert.deepEqual([url('3'), url('3'), url('3')], ['ws://second', 'ws://first', 'ws://second']);
    assert.equal(decide('3').cache, undefined);
});

test('first service takes the call without a counter', () => {
    store.granted = false;
    assert.deepEqual([url('3'), url('3')], ['ws://first', 'ws://first']);
    assert.match(lines[0][1], /not-granted/);
});

test('unknown skills and unknown numbers are passed', () => {
    assert.equal(decide('4').verdict.tag, 'pass');
    assert.deepEqual(lines, [['warn', 'no service has all of: flying']]);
    for (const to of ['9', '', undefined, 'toString', '__proto__']) {
        assert.equal(decide(to).verdict.tag, 'pass', to);
    }
});

test('missing setting is named, and its place is logged', () => {
    settings.delete('services');
    assert.throws(() => decide('1'), (thrown) => /config\.services/.test(thrown));
    assert.match(lines[0][1], /config\.services\n.*at setting/s);
});
