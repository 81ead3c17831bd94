// What is known, and when it is drawn.

/** At the most, so that a page that is open for weeks does not grow. */
const ROWS = 200;

const state = {
  connection: { state: 'connecting', reason: '' },
  generation: null, plugins: null, calls: null, dropped: 0, reloads: null, dead: null,
  decisions: [], happened: [], missed: 0,
  // The decisions as they were when somebody stopped them.
  paused: null,
  // Never kept: a page that is loaded again is masked again.
  numbers: false,
  token: remembered('sessionStorage', 'plugboard-token') ?? '',
};

/** What the browser keeps for us; nothing where it may not. */
function remembered(storage, key) {
  try { return window[storage].getItem(key); } catch { return null; }
}

function remember(storage, key, value) {
  try { window[storage].setItem(key, value); } catch { /* It is asked for again, then. */ }
}

/** Whether asking makes sense now: who waits for a server or a token asks in one place only. */
const isServed = () => ['live', 'full'].includes(state.connection.state);

const waiting = new Set();

/** Draws soon, once, however often it is asked for until then. */
function draw(...parts) {
  if (waiting.size === 0) requestAnimationFrame(() => {
    const now = [...waiting];
    waiting.clear();
    now.forEach((part) => part());
  });
  parts.forEach((part) => waiting.add(part));
}

let liveTimer = 0;
/** A busy server tells more than anybody can read: five times a second is enough. */
function drawLive() {
  liveTimer ||= setTimeout(() => {
    liveTimer = 0;
    draw(drawDecisions, drawHappened);
  }, 200);
}
