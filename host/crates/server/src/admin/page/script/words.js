// What things are called, and how numbers and times are written.

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

/** A moment: the time of day, with the date if it is not today. */
function time(at) {
  const date = new Date(at);
  if (!at || Number.isNaN(date.getTime())) return h('span', 'time', '–');
  const today = date.toDateString() === new Date().toDateString();
  const text = today ? clock.format(date) : `${day.format(date)} ${clock.format(date)}`;
  return h('time', { class: 'time', datetime: at, title: at }, text);
}

/** How long ago, in words that need not be right to the second. */
function ago(at) {
  const seconds = Math.max(0, Math.round((Date.now() - Date.parse(at)) / 1_000));
  if (seconds < 100) return `${seconds} s`;
  return seconds < 6_000 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3_600)} h`;
}

/** Both ends, by which an id or a number is known again. */
function short(text) {
  const shown = visible(text);
  return shown.length > 16 ? `${shown.slice(0, 8)}…${shown.slice(-4)}` : shown;
}
const party = (number) => (number === null || number === undefined ? h('span', 'dim', 'unknown') : outside(short(number), 'mono'));
const ways = ({ from, to }) => [party(from), ' → ', party(to)];

const OUTCOMES = {
  route: ['good', 'routed', 'A plugin said where the call goes.'],
  reject: ['blue', 'rejected', 'A plugin refused the call.'],
  pass: ['', 'undecided', 'Every plugin passed, so the operator’s fallback was answered.'],
  stopped: ['bad', 'stopped', 'A plugin failed and its on_failure ends the chain, so the fallback was answered.'],
  late: ['bad', 'too late', 'The time for a decision was over, so the fallback was answered.'],
  internal: ['bad', 'host failed', 'The host failed over this call, so the fallback was answered.'],
};
const SOURCES = { ran: 'asked', cached: 'cached', set_aside: 'set aside', repeated: 'sent again' };
const HOOKS = { router: 'decides', tools: 'tools', transfers: 'transfers', observer: 'is told' };
const BREAKERS = { closed: ['good', 'active'], open: ['warn', 'set aside'], half_open: ['warn', 'on trial'] };
const STATES = {
  broken: ['bad', 'broken', 'It could not be loaded, and nothing serves in its place.'],
  refused: ['bad', 'update refused', 'What is in the folder now could not be loaded; the version before serves on.'],
  set_aside: ['warn', 'set aside', 'It keeps failing, so it is not asked for a while.'],
  disabled: ['', 'disabled', 'The operator switched it off.'],
  active: ['good', 'active', 'It serves.'],
};

function outcome(name) {
  const [tone, word, meaning] = OUTCOMES[name] ?? ['', name, ''];
  return badge(tone, word, meaning);
}

/** How a decision came to be: who was asked, and who failed before. */
const how = ({ source, failures }) => [
  source && h('span', 'dim', SOURCES[source] ?? source, failures > 0 && ', '),
  failures > 0 && h('span', 'warned line', plural(failures, 'failure')),
];
