// Labels, and the formatting of numbers and times.

const integer = new Intl.NumberFormat('en');
const count = (n) => integer.format(n ?? 0);
const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
const percent = (part, whole) => (whole > 0 ? Math.round((100 * part) / whole) : 0);
const clock = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const day = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });

function took(us) {
  if (us === null || us === undefined) return '';
  if (us < 1_000) return `${us} µs`;
  return us < 1_000_000 ? `${(us / 1_000).toPrecision(3)} ms` : `${(us / 1_000_000).toPrecision(3)} s`;
}

/** Formats a time: the time of day, with the date if it is not today. */
function time(at) {
  const date = new Date(at);
  if (!at || Number.isNaN(date.getTime())) return h('span', 'time', '–');
  const today = date.toDateString() === new Date().toDateString();
  const text = today ? clock.format(date) : `${day.format(date)} ${clock.format(date)}`;
  return h('time', { class: 'time', datetime: at, title: at }, text);
}

/** Formats the time since a moment, rounded. */
function ago(at) {
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(at)) / 1_000));
  if (seconds < 100) return `${seconds} s`;
  return seconds < 6_000 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3_600)} h`;
}

/** Shortens an id or a number to both of its ends. */
function short(text) {
  const shown = visible(text);
  return shown.length > 16 ? `${shown.slice(0, 8)}…${shown.slice(-4)}` : shown;
}
const party = (number) => (number === null || number === undefined ? h('span', 'dim', 'unknown') : outside(short(number), 'mono'));
const ways = ({ from, to }) => [party(from), ' → ', party(to)];

const OUTCOMES = {
  route: ['good', 'routed', 'A plugin routed the call.'],
  reject: ['blue', 'rejected', 'A plugin rejected the call.'],
  pass: ['', 'undecided', 'Every plugin passed or failed, so the call got the operator’s fallback.'],
  stopped: ['bad', 'stopped', 'A plugin failed and its on_failure ends the chain, so the call got the fallback.'],
  deadline_exceeded: ['bad', 'deadline exceeded', 'No plugin decided within limits.decision_timeout, so the call got the fallback.'],
  internal: ['bad', 'internal error', 'Plugboard itself failed, so the call got the fallback. The log has the error.'],
};
const SOURCES = { plugin: 'ran', cache: 'cached', circuit_open: 'circuit open', replayed: 'replayed' };
const HOOKS = { router: 'decides', tools: 'tools', transfers: 'transfers', observer: 'observes' };
const BREAKERS = { closed: ['good', 'active'], open: ['warn', 'circuit open'], half_open: ['warn', 'half-open'] };
const STATES = {
  broken: ['bad', 'broken', 'The plugin could not be loaded, and no earlier version serves.'],
  stale: ['bad', 'update failed', 'The version in the folder could not be loaded; the last good version serves.'],
  circuit_open: ['warn', 'circuit open', 'Its circuit breaker is open after repeated failures, so calls skip the plugin for a while.'],
  disabled: ['', 'disabled', 'Its settings disable the plugin.'],
  active: ['good', 'active', 'The plugin serves.'],
};

function outcome(name) {
  const [tone, word, meaning] = OUTCOMES[name] ?? ['', name, ''];
  return badge(tone, word, meaning);
}

/** Returns the source of a decision and the number of failures before it. */
const how = ({ source, failures }) => [
  source && h('span', 'dim', SOURCES[source] ?? source, failures > 0 && ', '),
  failures > 0 && h('span', 'warned line', plural(failures, 'failure')),
];
