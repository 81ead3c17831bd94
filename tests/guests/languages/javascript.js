// Acts on the dialled number: `count`, `reach`, `raise` or `refuse`.
import { send } from 'plugboard:plugin/http@0.1.0';
import { set } from 'plugboard:plugin/kv@0.1.0';
import { write } from 'plugboard:plugin/log@0.1.0';

let calls = 0;

export const router = {
    decide(call) {
        calls += 1;
        switch (call.to) {
            case 'count':
                return route(`ws://sts/?calls=${calls}`);
            case 'reach':
                return route(`ws://sts/?${new AccessReport()}`);
            case 'raise':
                try {
                    return null.plan;
                } catch (error) {
                    write('error', `${error}\n${error.stack}`);
                    throw error;
                }
            case 'refuse':
                throw 'the plan says no';
            default:
                return { verdict: { tag: 'pass' } };
        }
    },
};

function route(stsUrl) {
    return { verdict: { tag: 'route', val: { stsUrl } } };
}

/** Counts the host features of other JavaScript runtimes that the plugin can access. */
class AccessReport {
    toString() {
        const globals = ['process', 'require', 'std', 'os', 'Deno', 'Bun', 'scriptArgs', 'load'];
        const network = ['fetch', 'XMLHttpRequest', 'WebSocket'];
        const request = { method: 'GET', url: 'http://127.0.0.1:9000/', headers: [], body: [] };
        return [
            `globals=${globals.filter((name) => name in globalThis).length}`,
            `network=${network.filter((name) => name in globalThis).length + count(() => send(request))}`,
            `values=${count(() => set('key', new Uint8Array([1]), undefined))}`,
        ].join('&');
    }
}

/** Returns 1 if the attempt does not throw, and 0 otherwise. */
function count(attempt) {
    try {
        attempt();
        return 1;
    } catch {
        return 0;
    }
}
