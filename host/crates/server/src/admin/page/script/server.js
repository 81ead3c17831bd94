// Requests to the server, and the live feed.

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Sends a request. Throws the error text of the server, or status 0 if the server cannot be reached. */
async function ask(path, options = {}) {
  const headers = state.token ? { Authorization: `Bearer ${state.token}` } : {};
  const response = await fetch(path, { cache: 'no-store', credentials: 'omit', ...options, headers }).catch(unreachable);
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  throw new Refused(response.status, body?.error?.message ?? `the server answered ${response.status}`);
}

function unreachable() {
  throw new Refused(0, 'The server cannot be reached.');
}

async function askJson(path, options) {
  const response = await ask(path, { signal: AbortSignal.timeout(20_000), ...options });
  return response.json().catch(unreachable);
}

const masked = (path) => (state.numbers ? `${path}?numbers=shown` : path);

/** Runs a task at an interval while the page is visible. The returned function runs it at once. */
function every(pause, task) {
  let timer = 0;
  const run = async () => {
    clearTimeout(timer);
    if (!document.hidden && isServed()) {
      try {
        await task();
      } catch (error) {
        // The stream finds out if the server is reachable, and which token it requires.
        if (error.status === 401) restart();
        else if (!(error instanceof Refused)) reportError(error);
        else if (error.status > 0) say(error.message);
      }
    }
    clearTimeout(timer);
    timer = setTimeout(run, pause);
  };
  return run;
}

const loadPlugins = every(2_000, async () => {
  const deadLetters = () => (state.plugins ?? []).reduce((sum, { events }) => sum + (events?.dead_letters ?? 0), 0);
  const before = deadLetters();
  const { generation, plugins } = await askJson('/plugins');
  Object.assign(state, { generation, plugins });
  draw(drawHealth, drawPlugins);
  if (deadLetters() !== before) loadDead();
});
const loadCalls = every(2_000, async () => {
  const { numbers } = state;
  const { calls, dropped } = await askJson(masked('/calls'));
  // The operator changed the masking after this request was sent.
  if (numbers !== state.numbers) return;
  Object.assign(state, { calls, dropped });
  draw(drawCalls, drawSections);
});
const loadDead = every(10_000, async () => {
  state.dead = await askJson('/events/dead');
  draw(drawDead, drawHealth);
});
const loadReloads = every(60_000, async () => {
  state.reloads = (await askJson('/reloads')).reloads;
  draw(drawReloads);
});
const loadAll = () => [loadPlugins, loadCalls, loadDead, loadReloads].forEach((load) => load());

/** Parser of server-sent events from pieces of text. EventSource cannot send a token. */
class Messages {
  #rest = '';
  #type = '';
  #data = [];

  /** Yields the messages that this piece completes, as [type, data]. */
  *push(piece) {
    const lines = (this.#rest + piece).split(/\r?\n/);
    this.#rest = lines.pop();
    for (const line of lines) {
      const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (field === 'event') this.#type = value;
      if (field === 'data') this.#data.push(value);
      if (line !== '') continue;
      if (this.#data.length > 0) yield [this.#type, this.#data.join('\n')];
      [this.#type, this.#data] = ['', []];
    }
  }
}

/** Maximum silence of a live connection, in milliseconds. The server sends a comment every 15 s. */
const SILENCE = 40_000;
/** Delays before reconnection attempts, in milliseconds; the last one repeats. */
const PAUSES = [500, 1_000, 2_000, 5_000, 10_000];

let restart = () => {};

/** Follows the live feed while the page is open, and reconnects after a connection ends. */
async function follow() {
  let tries = 0;
  for (;;) {
    const over = new AbortController();
    restart = () => { tries = 0; over.abort(); };
    if (document.hidden) {
      // The next connection starts with the recent history.
      await pause(Infinity, over.signal);
      continue;
    }
    try {
      await readLive(over, () => { tries = 0; });
    } catch (error) {
      if (over.signal.aborted && over.signal.reason !== SILENCE) continue;
      lost(error, PAUSES[Math.min(tries, PAUSES.length - 1)]);
    }
    // Jitter spreads the reconnections of many pages.
    const wait = PAUSES[Math.min(tries++, PAUSES.length - 1)] * (0.75 + Math.random() / 2);
    await pause(state.connection.state === 'locked' ? Infinity : wait, over.signal);
  }
}

async function readLive(over, arrived) {
  let silence = setTimeout(() => over.abort(SILENCE), SILENCE);
  try {
    const response = await ask(masked('/live'), { signal: over.signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    connected('live');
    arrived();
    const messages = new Messages();
    isPast = true;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new Error('the server ended the connection');
      clearTimeout(silence);
      silence = setTimeout(() => over.abort(SILENCE), SILENCE);
      for (const [type, data] of messages.push(value)) {
        // An error of the page does not end the connection.
        try { heard(type, data); } catch (error) { reportError(error); }
      }
    }
  } finally {
    clearTimeout(silence);
  }
}

const pause = (ms, signal) => new Promise((done) => {
  if (signal.aborted) return done();
  const timer = ms === Infinity ? 0 : setTimeout(done, ms);
  signal.addEventListener('abort', () => { clearTimeout(timer); done(); }, { once: true });
});

function connected(name, reason = '') {
  const before = state.connection.state;
  state.connection = { state: name, reason };
  if (name === 'live' && before === 'lost') say('Reconnected.');
  if (name === 'lost' && before !== 'lost') say(`Connection lost: ${reason}`);
  draw(drawHealth);
  if (isServed()) loadAll();
}

function lost(error, wait) {
  const again = `retry every ${Math.max(1, Math.round(wait / 1_000))} s`;
  if (!(error.status > 0)) return connected('lost', again);
  if (error.status === 401) {
    connected('locked');
    return askForToken();
  }
  // The limit of subscribers is reached; other requests still work.
  if (error.status === 503) return connected('full', `${error.message}; ${again}`);
  connected('lost', `${error.message}; ${again}`);
}

/** True while the messages are history from before the connection. */
let isPast = true;

const seen = { decisions: new Set(), happened: new Set() };

/** Inserts a message by its time, newest first. Ignores messages that are received again after a reconnection. */
function insert(list, message, data) {
  if (seen[list].has(data)) return;
  const rows = state[list];
  const item = { ...message, key: data, moment: Date.parse(message.at) || 0 };
  const place = rows.findIndex((other) => other.moment <= item.moment);
  rows.splice(place < 0 ? rows.length : place, 0, item);
  seen[list].add(data);
  while (rows.length > ROWS) seen[list].delete(rows.pop().key);
}

function heard(type, data) {
  const message = JSON.parse(data);
  if (type === 'decision') insert('decisions', message, data);
  if (type === 'mid_call_request' || type === 'event' || type === 'reload') insert('happened', { ...message, type }, data);
  if (type === 'caught_up') isPast = false;
  if (type === 'missed') state.missed += message.count;
  if (type === 'erased') erase(message);
  // The current state already includes reloads of the history.
  if (type === 'reload' && !isPast) {
    loadPlugins();
    loadReloads();
  }
  drawLive();
}

/** Removes an erased call. */
function erase({ call, platforms }) {
  const stays = (row) => row.call !== call || !platforms.includes(row.platform);
  for (const list of ['decisions', 'happened']) {
    const gone = state[list].filter((row) => !stays(row));
    gone.forEach(({ key }) => seen[list].delete(key));
    state[list] = state[list].filter(stays);
  }
  state.paused = state.paused?.filter(stays) ?? null;
  loadCalls();
}

/** Clears the lists and reads the feed again, masked or unmasked. */
function resubscribe() {
  Object.assign(state, { decisions: [], happened: [], paused: null, calls: null });
  Object.values(seen).forEach((keys) => keys.clear());
  draw(drawDecisions, drawHappened, drawCalls);
  restart();
}
