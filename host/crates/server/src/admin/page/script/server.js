// Asking the server, and following what it tells.

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The answer, or why there is none: in the server's own words, or with the status 0 if there is no server. */
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

/** Asks again and again while there is somebody to see it; the returned function asks at once. */
function every(pause, task) {
  let timer = 0;
  const run = async () => {
    clearTimeout(timer);
    if (!document.hidden && isServed()) {
      try {
        await task();
      } catch (error) {
        // Whether there is a server, and what token it wants, is the stream's to find out.
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
  const buried = () => (state.plugins ?? []).reduce((sum, { events }) => sum + (events?.dead ?? 0), 0);
  const before = buried();
  const { generation, plugins } = await askJson('/plugins');
  Object.assign(state, { generation, plugins });
  draw(drawHealth, drawPlugins);
  if (buried() !== before) loadDead();
});
const loadCalls = every(2_000, async () => {
  const { numbers } = state;
  const { calls, dropped } = await askJson(masked('/calls'));
  // Asked before somebody masked them.
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

/** Server-sent events out of pieces of text. EventSource does as much, but cannot send a token. */
class Messages {
  #rest = '';
  #type = '';
  #data = [];

  /** The messages that this piece completes, as [type, data]. */
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

/** The server says something every 15 s. Who hears nothing for longer is alone. */
const SILENCE = 40_000;
/** Between two tries, in milliseconds; the last one goes on. */
const PAUSES = [500, 1_000, 2_000, 5_000, 10_000];

let restart = () => {};

/** Follows what happens, for as long as the page is open, from one connection to the next. */
async function follow() {
  let tries = 0;
  for (;;) {
    const over = new AbortController();
    restart = () => { tries = 0; over.abort(); };
    if (document.hidden) {
      // Whoever comes back is told what happened lately.
      await pause(Infinity, over.signal);
      continue;
    }
    try {
      await readLive(over, () => { tries = 0; });
    } catch (error) {
      if (over.signal.aborted && over.signal.reason !== SILENCE) continue;
      lost(error, PAUSES[Math.min(tries, PAUSES.length - 1)]);
    }
    // Not all at the same moment, if many were cut off together.
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
        // A mistake of ours is no reason to connect again.
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
  if (name === 'live' && before === 'lost') say('Connected again.');
  if (name === 'lost' && before !== 'lost') say(`Connection lost: ${reason}`);
  draw(drawHealth);
  if (isServed()) loadAll();
}

function lost(error, wait) {
  const again = `trying again every ${Math.max(1, Math.round(wait / 1_000))} s`;
  if (!(error.status > 0)) return connected('lost', again);
  if (error.status === 401) {
    connected('locked');
    return askForToken();
  }
  // There are readers enough; the rest of the server answers.
  if (error.status === 503) return connected('full', `${error.message}; ${again}`);
  connected('lost', `${error.message}; ${again}`);
}

/** Whether what is heard happened before we listened. */
let isPast = true;

const seen = { decisions: new Set(), happened: new Set() };

/** Puts it where its time belongs, newest first. What is told again after a reconnection is known already. */
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
  if (type === 'use' || type === 'event' || type === 'reload') insert('happened', { ...message, type }, data);
  if (type === 'caught_up') isPast = false;
  if (type === 'missed') state.missed += message.count;
  if (type === 'erased') erase(message);
  // What is told of the past is known from what is asked for now.
  if (type === 'reload' && !isPast) {
    loadPlugins();
    loadReloads();
  }
  drawLive();
}

/** What the server has forgotten of a call is not shown any longer. */
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

/** What was heard is heard anew, as it is told otherwise now. */
function forget() {
  Object.assign(state, { decisions: [], happened: [], paused: null, calls: null });
  Object.values(seen).forEach((keys) => keys.clear());
  draw(drawDecisions, drawHappened, drawCalls);
  restart();
}
