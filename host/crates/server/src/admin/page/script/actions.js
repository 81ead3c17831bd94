// Actions of the operator on the page.

let toastTimer = 0;
/** Shows a message for eight seconds, and announces it to screen readers. */
function say(text) {
  $('toast').textContent = visible(text);
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $('toast').textContent = ''; }, 8_000);
}

function askForToken() {
  $('token-reason').textContent = state.token
    ? 'The token is invalid. Enter the admin_token of the configuration.'
    : 'Enter the admin_token of the configuration. It is kept until this tab is closed.';
  if (!$('token-dialog').open) $('token-dialog').showModal();
}

let purging = null;

const actions = {
  async reload(button) {
    button.disabled = true;
    try {
      const { generation } = await askJson('/reload', { method: 'POST' });
      say(`Plugin folder reloaded: generation ${generation} serves.`);
    } finally {
      button.disabled = !isServed();
      loadPlugins();
      loadReloads();
    }
  },
  numbers(button) {
    state.numbers = !state.numbers;
    button.setAttribute('aria-pressed', state.numbers);
    say(state.numbers ? 'Numbers unmasked.' : 'Numbers masked.');
    resubscribe();
  },
  theme() {
    const themes = ['system', 'light', 'dark'];
    setTheme(themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % themes.length]);
  },
  pause(button) {
    state.paused = state.paused ? null : [...state.decisions];
    button.setAttribute('aria-pressed', state.paused !== null);
    drawDecisions();
  },
  token: askForToken,
  close: (button) => button.closest('dialog').close(),
  async copy({ dataset }) {
    try {
      await navigator.clipboard.writeText(dataset.text);
      say('Call id copied.');
    } catch {
      // Browsers allow copying only on https and localhost.
      say(`The browser does not allow copying. The call id is ${dataset.text}`);
    }
  },
  open({ dataset }) {
    const item = [...$('call-list').querySelectorAll('[data-key]')].find(({ dataset: { key } }) => key === dataset.call);
    if (!item) return say('This call has ended, and its timeline has expired.');
    const details = item.querySelector('details');
    details.open = true;
    details.querySelector('summary').focus();
    item.scrollIntoView({ block: 'nearest' });
  },
  async redrive({ dataset }) {
    const { redriven } = await askJson(`/events/dead/retry${selected(dataset)}`, { method: 'POST' });
    say(`${plural(redriven, 'event')} redriven.`);
    loadDead();
    loadPlugins();
  },
  purge({ dataset }) {
    purging = { ...dataset };
    $('confirm-text').textContent = visible(`Purge ${dataset.what}? It cannot be redriven afterwards.`);
    $('confirm-dialog').showModal();
  },
  async 'purge-confirmed'() {
    $('confirm-dialog').close();
    const { purged } = await askJson(`/events/dead${selected(purging)}`, { method: 'DELETE' });
    say(`${plural(purged, 'event')} purged.`);
    loadDead();
  },
  example({ dataset }) {
    $('webhook').value = JSON.stringify(EXAMPLES[dataset.name], null, 2);
    $('webhook').focus();
  },
  async explain() {
    try {
      drawExplanation(await askJson('/explain', { method: 'POST', body: $('webhook').value }));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      show('explanation', h('p', 'bad', badge('bad', 'cannot be explained')), h('p', 'untrusted', error.message));
    }
  },
};

/** Returns the query for the dead letters of a button: one letter, those of an observer, or all. */
function selected({ id, observer }) {
  if (id !== undefined) return `?id=${encodeURIComponent(id)}`;
  return observer === undefined ? '' : `?observer=${encodeURIComponent(observer)}`;
}

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  $('theme').textContent = `Theme: ${theme}`;
  remember('localStorage', 'plugboard-theme', theme);
}

document.addEventListener('click', async ({ target }) => {
  const button = target.closest('[data-action]');
  if (!button) return;
  try {
    await actions[button.dataset.action](button);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    say(error.message);
    if (error.status === 401) restart();
  }
});

document.addEventListener('keydown', (event) => {
  const { key, target } = event;
  if (key === 'Enter' && event.ctrlKey && target === $('webhook')) document.querySelector('[data-action="explain"]').click();
  const opened = key === 'Escape' && target.closest?.('details[open]');
  if (!opened) return;
  opened.open = false;
  opened.querySelector('summary').focus();
});

$('filter').addEventListener('input', drawDecisions);
$('token-form').addEventListener('submit', () => {
  state.token = $('token').value.trim();
  remember('sessionStorage', 'plugboard-token', state.token);
  $('token').value = '';
  restart();
});
document.addEventListener('visibilitychange', () => restart());

setTheme(remembered('localStorage', 'plugboard-theme') ?? 'system');
draw(drawHealth, drawDecisions, drawHappened, drawDead);
show('explanation', h('p', 'empty', 'The answer of each plugin appears here in chain order: whether it ran or the cache answered, its decision or error, and its time.'));
follow();
