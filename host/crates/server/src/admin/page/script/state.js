// State of the page, and scheduling of updates.

/** Maximum number of rows, so that a page that is open for weeks does not grow. */
const ROWS = 200;

const state = {
  connection: { state: 'connecting', reason: '' },
  generation: null, plugins: null, calls: null, dropped: 0, reloads: null, dead: null,
  decisions: [], happened: [], missed: 0,
  // The decisions at the time of the pause; null: not paused.
  paused: null,
  // Never stored: a reloaded page masks numbers again.
  numbers: false,
  token: remembered('sessionStorage', 'plugboard-token') ?? '',
};

/** Returns a stored value; null if the browser denies storage. */
function remembered(storage, key) {
  try { return window[storage].getItem(key); } catch { return null; }
}

function remember(storage, key, value) {
  try { window[storage].setItem(key, value); } catch { /* The value is not stored. */ }
}

/** Returns true if requests can succeed. Otherwise only the live feed tries to connect. */
const isServed = () => ['live', 'full'].includes(state.connection.state);

const waiting = new Set();

/** Schedules parts to be drawn once with the next frame. */
function draw(...parts) {
  if (waiting.size === 0) requestAnimationFrame(() => {
    const now = [...waiting];
    waiting.clear();
    now.forEach((part) => part());
  });
  parts.forEach((part) => waiting.add(part));
}

let liveTimer = 0;
/** Draws the live lists at most five times a second. */
function drawLive() {
  liveTimer ||= setTimeout(() => {
    liveTimer = 0;
    draw(drawDecisions, drawHappened);
  }, 200);
}
