// What is wrong, in one look: the bar, the list of problems, the browser's tab.

/** A plugin's state as this page tells it: an update that was refused is one of its own. */
function stateOf({ state, last_error: error }) {
  const refused = error && error.stage !== 'call' && ['active', 'set_aside'].includes(state);
  return refused ? 'refused' : state;
}

function problems() {
  const found = [];
  for (const plugin of state.plugins ?? []) {
    const now = stateOf(plugin);
    if (now === 'active' || now === 'disabled') continue;
    found.push({ tone: STATES[now][0], plugin: plugin.name, word: STATES[now][1], error: plugin.last_error });
  }
  const letters = deadTotal();
  if (letters > 0) {
    const text = `${plural(letters, 'event')} that observers could not take ${letters === 1 ? 'waits' : 'wait'} among the`;
    found.push({ tone: 'warn', letters: text });
  }
  return found;
}

const deadTotal = () => (state.dead?.total ?? []).reduce((sum, { count }) => sum + count, 0);

const CONNECTIONS = {
  connecting: ['', 'connecting'], live: ['good', 'live'], full: ['warn', 'not live'],
  lost: ['bad', 'connection lost'], locked: ['warn', 'token needed'],
};

function drawHealth() {
  const found = problems();
  const worst = found.some(({ tone }) => tone === 'bad') ? 'bad' : 'warn';
  const [tone, word] = CONNECTIONS[state.connection.state];
  const known = isServed() && state.plugins;
  const well = found.length === 0
    ? badge('good', 'all is well')
    : badge(worst, `${plural(found.length, 'thing')} to look at`);
  show('health',
    known ? well : badge('', 'not known'),
    badge(tone, word),
    state.connection.reason && h('span', 'dim', state.connection.reason));
  document.body.classList.toggle('stale', !known && state.plugins !== null);
  $('token-button').hidden = state.connection.state !== 'locked';
  $('reload').disabled = !isServed();
  mark(known ? (found.length === 0 ? 'good' : worst) : '', found.length);
  $('problems').hidden = found.length === 0;
  $('problems').className = `problems ${worst}`;
  show('problems', found.map(problem));
  draw(drawSections);
}

function problem({ plugin, word, error, letters, tone }) {
  if (letters) return h('p', null, badge(tone, 'given up'), ` ${letters} `, h('a', { href: '#dead' }, 'dead letters'), '.');
  return h('div', null,
    h('p', null, badge(tone, word), ' ', h('a', { href: `#${anchor(plugin)}` }, outside(plugin)),
      error && h('span', 'dim', ` ${told(error)}`)),
    // The whole of it stands with the plugin.
    error && h('p', 'said line', error.message));
}

/** Where it failed, and when. */
function told({ stage, label, at }) {
  const place = stage === 'call' ? 'in a call' : `at ${stage}`;
  return `${place}${label === stage ? '' : `: ${label}`}, ${ago(at)} ago`;
}
const anchor = (plugin) => `plugin-${encodeURIComponent(plugin)}`;

/** The browser's tab tells as much. */
function mark(tone, problems) {
  document.title = problems > 0 ? `(${problems}) Plugboard` : 'Plugboard';
  const colour = { good: '#1a8a4a', warn: '#d98a00', bad: '#d33' }[tone] ?? '#778';
  const disc = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="6" fill="${colour}"/></svg>`;
  const href = `data:image/svg+xml,${encodeURIComponent(disc)}`;
  const icon = document.querySelector('link') ?? h('link', { rel: 'icon' });
  if (icon.href !== href) icon.href = href;
  document.head.append(icon);
}

function drawSections() {
  const running = (state.calls ?? []).filter(({ ended }) => !ended).length;
  const sections = [
    ['plugins', 'Plugins', state.plugins?.length], ['live', 'Decisions'], ['events', 'Events'],
    ['calls', 'Calls', running], ['reloads', 'Reloads'], ['dead', 'Dead letters', deadTotal()], ['explain', 'Explain'],
  ];
  show('sections', sections.map(([id, name, number]) =>
    h('li', null, h('a', { href: `#${id}` }, number > 0 ? `${name} (${count(number)})` : name))));
}
