// Section of the plugins, in chain order.

/** Returns the statistics of a plugin by hook, in the same columns for all hooks. */
function hooksOf(plugin) {
  const sum = ({ pass = 0, route = 0, reject = 0 } = {}) => pass + route + reject;
  const { events, tools, transfers } = plugin;
  const used = (hook, of, names) => of && {
    hook, breaker: of.breaker, calls: of.answered + of.declined + of.failed, failures: of.failed,
    cached: of.cached, latency: of.latency_us, names,
  };
  const elsewhere = (events?.failed ?? 0) + (tools?.failed ?? 0) + (transfers?.failed ?? 0);
  const hooks = [
    plugin.exports?.includes('router') && {
      hook: 'router', breaker: plugin.breaker, calls: plugin.calls, decided: decidedBy(plugin),
      failures: Math.max(0, plugin.failures - elsewhere), cached: sum(plugin.cached), latency: plugin.latency_us,
    },
    used('tools', tools, tools?.names),
    used('transfers', transfers),
    events && {
      hook: 'observer', breaker: events.breaker, calls: events.delivered + events.failed, failures: events.failed,
      latency: events.latency_us, lag: plugin.lag, deadLetters: events.dead_letters,
    },
  ];
  return hooks.filter(Boolean);
}

/** Returns the number of calls that a plugin decided. */
function decidedBy({ decisions = {}, cached = {} }) {
  const of = ({ route = 0, reject = 0 }) => route + reject;
  return of(decisions) + of(cached);
}

function drawPlugins() {
  const { plugins } = state;
  if (!plugins) return;
  $('plugins-hint').textContent = `Generation ${state.generation}, counted since the server started`;
  if (plugins.length === 0) {
    show('plugin-table', h('p', 'empty', 'No plugins: every call gets the operator’s fallback. Create one with ',
      h('code', null, 'plugboard new my-plugin'), ', then ', h('code', null, 'plugboard build my-plugin --deploy PLUGINS'),
      ' with this server’s plugin folder. The plugin serves without a restart.'));
    return;
  }
  const all = plugins.reduce((sum, plugin) => sum + decidedBy(plugin), 0);
  const columns = ['#', 'Plugin', 'Hook', 'State', ['Calls', 'num'], ['Decided', 'num'], ['Failures', 'num'],
    ['Cached', 'num'], ['p50', 'num'], ['p99', 'num'], 'Details'];
  show('plugin-table', table('Plugins', columns, plugins.map((plugin, nth) => pluginBody(plugin, nth, all))));
}

function pluginBody(plugin, nth, all) {
  const now = stateOf(plugin);
  const [tone, word, meaning] = STATES[now] ?? ['', now, ''];
  const hooks = hooksOf(plugin);
  const [first, ...others] = hooks.length > 0 ? hooks : [{}];
  const digest = plugin.digest && h('span', { class: 'mono dim', title: `SHA-256 ${plugin.digest}` }, plugin.digest.slice(0, 8));
  const lead = [
    cell('position', '', `${nth + 1}`),
    cell('name text', '', h('strong', null, outside(plugin.name)), ' ', digest),
  ];
  const error = plugin.last_error;
  return h('tbody', { class: `plugin ${tone}`, id: anchor(plugin.name), 'data-key': plugin.name, 'data-state': now, role: 'rowgroup' },
    row('', '', lead, hookCells(first, badge(tone, word, meaning), all)),
    others.map((hook) => row('part', '', cell('', ''), cell('', ''), hookCells(hook, badge(...BREAKERS[hook.breaker]), all))),
    error && row('note', '', h('td', { colspan: 11, role: 'cell' }, errorNote(error, now))));
}

function hookCells({ hook, calls, decided, failures, cached, latency, names, lag, deadLetters }, condition, all) {
  const number = (label, value, text) => (hook ? cell('num', label, text ?? (value === undefined ? '' : count(value))) : cell('num', ''));
  const share = decided !== undefined && calls + cached > 0 && h('span', 'share',
    h('progress', { max: 100, value: percent(decided, all), 'aria-label': `${percent(decided, all)} % of the calls that were decided` }),
    `${percent(decided, all)} %`);
  const more = [
    names?.map((name) => [h('span', 'tag', outside(name)), ' ']),
    lag !== undefined && h('span', lag > 0 ? 'warned' : 'dim', `lag ${count(lag)}`),
    deadLetters > 0 && [', ', h('a', { href: '#dead' }, plural(deadLetters, 'dead letter'))],
  ];
  return [
    cell('', '', hook && h('span', 'tag', HOOKS[hook] ?? hook)),
    cell('', '', condition),
    number('calls', calls),
    share ? cell('num', 'decided', share) : cell('num', ''),
    number('failures', failures, failures > 0 ? h('span', 'failed', count(failures)) : undefined),
    cached === undefined ? cell('num', '') : number('cached', cached),
    number('p50', 0, calls > 0 ? took(latency?.p50) : '–'),
    number('p99', 0, calls > 0 ? took(latency?.p99) : '–'),
    cell('text', '', ...more),
  ];
}

function errorNote(error, now) {
  const tone = ['broken', 'stale'].includes(now) ? 'failed' : now === 'circuit_open' ? 'warned' : 'dim';
  return [
    h('span', tone, 'Last error ', errorPlace(error)), ' ', time(error.at),
    h('div', 'untrusted', error.message),
  ];
}
