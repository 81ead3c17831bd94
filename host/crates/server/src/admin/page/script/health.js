// Summary of problems: the header bar, the list of problems and the browser's tab.

/** Returns the state that the page shows; `stale` for a plugin whose update failed. */
const stateOf = ({ state, stale_version: isStale }) => (isStale ? 'stale' : state);

function problems() {
  const found = [];
  for (const plugin of state.plugins ?? []) {
    const now = stateOf(plugin);
    if (now === 'active' || now === 'disabled') continue;
    found.push({ tone: STATES[now][0], plugin: plugin.name, word: STATES[now][1], error: plugin.last_error });
  }
  const letters = deadTotal();
  if (letters > 0) {
    found.push({ tone: 'warn', letters: `${plural(letters, 'event')} could not be delivered: see the` });
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
    ? badge('good', 'no problems')
    : badge(worst, plural(found.length, 'problem'));
  show('health',
    known ? well : badge('', 'status unknown'),
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
  if (letters) return h('p', null, badge(tone, 'undelivered'), ` ${letters} `, h('a', { href: '#dead' }, 'dead letters'), '.');
  return h('div', null,
    h('p', null, badge(tone, word), ' ', h('a', { href: `#${anchor(plugin)}` }, outside(plugin)),
      error && h('span', 'dim', ` ${errorPlace(error)}`)),
    // The section of the plugin has the full text.
    error && h('p', 'untrusted line', error.message));
}

/** Returns the stage and the age of an error. */
function errorPlace({ stage, label, at }) {
  const place = stage === 'call' ? 'in a call' : `at ${stage}`;
  return `${place}${label === stage ? '' : `: ${label}`}, ${ago(at)} ago`;
}
const anchor = (plugin) => `plugin-${encodeURIComponent(plugin)}`;

/** Shows the state in the title and icon of the browser's tab. */
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
