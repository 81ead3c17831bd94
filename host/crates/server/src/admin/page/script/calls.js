// Decisions, events, calls with their timelines, and reloads.

function drawDecisions() {
  const wanted = $('filter').value.trim().toLowerCase();
  const all = state.paused ?? state.decisions;
  const rows = all.filter((decision) => wanted === '' || wordsOf(decision).includes(wanted));
  const newer = state.paused ? state.decisions.findIndex(({ key }) => key === state.paused[0]?.key) : 0;
  $('live-hint').textContent = [
    state.paused && `paused, ${newer < 0 ? 'many' : newer} newer`,
    wanted && `${rows.length} of ${all.length}`,
    state.missed > 0 && `${plural(state.missed, 'message')} dropped`,
  ].filter(Boolean).join(' · ');
  if (rows.length === 0) {
    show('decision-table', all.length > 0
      ? h('p', 'empty', 'No decision contains this text.')
      : h('p', 'empty', 'No call yet. Set the webhook URL of a platform to this server’s ', h('code', null, '/events'), ' (AVR, DSAI) or ',
        h('code', null, '/blackbox'), ', or simulate a call with ', h('code', null, 'plugboard simulate http://HOST:PORT/events'), '.'));
    return;
  }
  const columns = ['Time', 'Call', 'Platform', 'From → to', 'Outcome', 'By', ['Took', 'num'], 'Source'];
  show('decision-table', table('Decisions, newest first', columns, h('tbody', { role: 'rowgroup' }, rows.map(decisionRow))));
}

const wordsOf = (decision) => {
  const { call, platform, agent, from, to, plugin, source } = decision;
  const word = OUTCOMES[decision.outcome]?.[1];
  return [call, platform, agent, from, to, plugin, decision.outcome, word, SOURCES[source]].join('\n').toLowerCase();
};

function decisionRow(decision) {
  const { key, at, call, platform, agent, plugin, took_us: us } = decision;
  const isNew = Date.now() - Date.parse(at) < 1_500;
  return row(isNew ? 'fresh' : '', key,
    cell('', '', time(at)),
    cell('line', '', [callLink(call, platform), copyButton(call)]),
    cell('line', '', h('span', { title: agent && `agent ${agent}` }, platform)),
    cell('line ways', '', ways(decision)),
    cell('line', '', outcome(decision.outcome)),
    cell('line', 'by', plugin ? h('strong', null, outside(plugin)) : h('span', 'dim', 'fallback')),
    cell('num', 'took', took(us)),
    cell('', '', how(decision)));
}

/** Returns the call id as a button that opens the timeline. */
const callLink = (call, platform) => h('button', {
  type: 'button', class: 'link mono', title: call, 'aria-label': `Timeline of call ${call}`,
  'data-action': 'open', 'data-call': callKey({ call, platform }),
}, outside(short(call)));
const copyButton = (call) => h('button', {
  type: 'button', class: 'link copy', 'data-action': 'copy', 'data-text': call, title: 'Copy the call’s id', 'aria-label': `Copy the id of call ${call}`,
});
const callKey = ({ call, platform }) => `${platform} ${call}`;

function drawHappened() {
  if (state.happened.length === 0) {
    show('event-list', h('p', 'empty', 'No events yet. Events of calls appear here: speech, tools, transfers, ends of calls. ',
      'The page does not show the content of speech.'));
    return;
  }
  show('event-list', h('ul', 'lines', state.happened.map((item) => h('li', { 'data-key': item.key },
    h('div', 'step', time(item.at), happening(item),
      item.call !== undefined && callLink(item.call, item.platform))))));
}

const MID_CALL_OUTCOMES = {
  answered: 'good', cached: 'good', declined: '', failed: 'bad', unknown: 'bad', deadline_exceeded: 'bad', busy: 'bad',
};

/** Returns the short form of an event, a mid-call request, a decision or a reload, for the feed and for timelines. */
function happening(item) {
  if (item.type === 'decision') {
    return [outcome(item.outcome), item.plugin ? h('span', null, 'by ', h('strong', null, outside(item.plugin))) : 'fallback',
      h('span', null, how(item)), h('span', 'dim', took(item.took_us))];
  }
  if (item.type === 'mid_call_request') {
    const tone = MID_CALL_OUTCOMES[item.outcome] ?? 'warn';
    return [h('span', null, item.kind, ' ', item.name && outside(item.name, 'mono')), badge(tone, item.outcome.replaceAll('_', ' ')),
      item.plugin && outside(item.plugin), h('span', 'dim', took(item.took_us))];
  }
  if (item.type === 'reload') return [badge('blue', `generation ${item.generation}`), changes(item)];
  const word = String(item.kind).replaceAll('_', ' ');
  return [h('span', item.kind === 'error' ? 'failed' : '', word), item.detail && outside(item.detail, 'dim')];
}

const changes = ({ changes }) => h('span', null, (changes ?? []).map(({ plugin, kind }, nth) => [nth > 0 && ', ', outside(plugin), ` ${kind}`]));

function drawCalls() {
  const { calls, dropped } = state;
  if (!calls) return;
  const running = calls.filter(({ ended }) => !ended).length;
  $('calls-hint').textContent = [`${count(running)} in progress`, calls.length > running && `${count(calls.length - running)} ended`,
    dropped > 0 && plural(dropped, 'dropped activity', 'dropped activities')].filter(Boolean).join(' · ');
  if (calls.length === 0) {
    show('call-list', h('p', 'empty', 'No calls in progress. A call appears with its first webhook, and disappears some minutes after its end. Open a call to see its timeline.'));
    return;
  }
  show('call-list', h('ul', 'lines calls', calls.map((call) => h('li', { 'data-key': callKey(call) },
    h('details', null, callSummary(call), callTimeline(call))))));
}

function callSummary(call) {
  const { since, ended, platform, agent, timeline } = call;
  return h('summary', null,
    outside(short(call.call), 'mono'), h('span', null, platform, agent && [' ', outside(agent, 'dim')]), h('span', null, ways(call)),
    ended ? badge('', 'ended') : badge('good', `for ${ago(since)}`),
    call.prompt && h('span', 'tag', 'prompt'),
    h('span', 'dim', plural(timeline.length, 'step')));
}

function callTimeline({ call, since, ended, timeline }) {
  return h('div', null,
    h('p', 'empty', 'Call ', outside(call, 'mono whole'), ' ',
      copyButton(call), ' since ', time(since), ended && [', ended ', time(ended)]),
    h('ol', 'timeline', timeline.map((step) => h('li', null, h('div', 'step', time(step.at), happening(step))))));
}

const CHANGES = { broken: 'bad', added: 'good', fixed: 'good', replaced: 'blue', enabled: 'good' };

function drawReloads() {
  const { reloads } = state;
  if (!reloads) return;
  if (reloads.length === 0) {
    show('reload-list', h('p', 'empty', 'No reloads yet. Added, replaced and removed plugins appear here, and errors of plugins that could not be loaded.'));
    return;
  }
  show('reload-list', h('ul', 'lines', reloads.map(({ at, generation, changes }) =>
    h('li', { 'data-key': `${at} ${generation}` },
      h('div', 'step', time(at), h('span', 'dim', `generation ${generation}`)),
      (changes ?? []).map(({ plugin, kind, version, error }) => h('div', null,
        badge(CHANGES[kind] ?? '', kind), ' ', outside(plugin), ' ', version && outside(version.slice(0, 8), 'mono dim'),
        error && h('div', 'untrusted', error)))))));
}
