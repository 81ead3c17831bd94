// Explanation of a decision: the reply of each plugin.

const VERDICTS = { route: ['good', 'route'], reject: ['blue', 'reject'], pass: ['', 'pass'] };

function drawExplanation({ platform, plugins, outcome: name, by, failures, answer, took_us: us, generation }) {
  show('explanation',
    h('p', null, outcome(name), by ? [' by ', h('strong', null, outside(by))] : ' fallback', ' ', how({ failures }),
      h('span', 'dim', ` as ${platform}, generation ${generation}, ${took(us)}`)),
    h('ol', 'steps', plugins.map(explainStep)),
    h('h3', null, 'Answer to the platform'),
    h('pre', null, typeof answer === 'string' ? answer : JSON.stringify(answer, null, 2)));
}

function explainStep({ plugin, matched, source, decision, error, took_us: us }) {
  const name = h('strong', null, outside(plugin));
  if (!matched) return h('li', 'dim', name, ' does not match this call (platforms, match).');
  if (!source) return h('li', 'dim', name, ' did not run: the call was decided before.');
  if (source === 'circuit_open') {
    return h('li', 'warn', name, ' ', badge('warn', SOURCES[source]), ' and skipped', error && h('div', 'untrusted', error.message));
  }
  if (error) {
    return h('li', 'bad', name, ' ', badge('bad', `failed: ${error.label}`), h('span', 'dim', ` ${took(us)}`), h('div', 'untrusted', error.message));
  }
  const { verdict, sts_url: url, reason, prompt } = decision ?? {};
  const [tone, word] = VERDICTS[verdict] ?? ['', verdict];
  const details = [url, reason, prompt && `prompt: ${prompt}`].filter(Boolean);
  return h('li', tone, name, ' ', badge(tone, word), h('span', 'dim', ` ${source === 'cache' ? 'from the cache' : 'ran'}, ${took(us)}`),
    details.map((text) => h('div', 'untrusted', text)));
}

const EXAMPLES = {
  avr: { uuid: '935652e3-7c59-4edc-b17f-9646a9c2a265', type: 'call_initiated', timestamp: '2026-01-01T12:00:00.000Z',
    payload: { from: '2000', to: '5001', uniqueid: '1770758888.32', channel: 'PJSIP/2000-00000013' } },
  blackbox: { type: 'StartWebHookPayload', status: 'Queued', callId: 'call_abc123def456', agentId: 'agent_xyz789', orgId: 'org_123abc',
    endpoint: '+14155550123', callAdditionalData: {}, agentAdditionalData: {},
    sip: { fromUser: '+14155550123', fromDomain: 'sip.example.com', toUser: 'agent-line', toDomain: 'blackbox.example.com', diversion: [] } },
};
