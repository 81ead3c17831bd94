// What the person at the page does.

let toastTimer = 0;
/** Says it to everybody, once. */
function say(text) {
  $('toast').textContent = visible(text);
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { $('toast').textContent = ''; }, 8_000);
}

function askForToken() {
  $('token-reason').textContent = state.token
    ? 'That token is not the right one. It is admin_token in the configuration.'
    : 'It is admin_token in the configuration. This tab keeps it until it is closed.';
  if (!$('token-dialog').open) $('token-dialog').showModal();
}

let discarding = null;

const actions = {
  async reload(button) {
    button.disabled = true;
    try {
      const { generation } = await askJson('/reload', { method: 'POST' });
      say(`Looked at the plugin folder: generation ${generation} serves.`);
    } finally {
      button.disabled = !isServed();
      loadPlugins();
      loadReloads();
    }
  },
  numbers(button) {
    state.numbers = !state.numbers;
    button.setAttribute('aria-pressed', state.numbers);
    say(state.numbers ? 'Numbers are shown.' : 'Numbers are masked.');
    forget();
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
      say('The call’s id is copied.');
    } catch {
      // Only https and localhost may copy.
      say(`This browser does not let the page copy. The id is ${dataset.text}`);
    }
  },
  open({ dataset }) {
    const item = [...$('call-list').querySelectorAll('[data-key]')].find(({ dataset: { key } }) => key === dataset.call);
    if (!item) return say('This call is over, and its timeline is gone.');
    const details = item.querySelector('details');
    details.open = true;
    details.querySelector('summary').focus();
    item.scrollIntoView({ block: 'nearest' });
  },
  async retry({ dataset }) {
    const { retried } = await askJson(`/events/dead/retry${selected(dataset)}`, { method: 'POST' });
    say(`${plural(retried, 'event')} told once more.`);
    loadDead();
    loadPlugins();
  },
  discard({ dataset }) {
    discarding = { ...dataset };
    $('confirm-text').textContent = visible(`Discard ${dataset.what}? It cannot be told once more after that.`);
    $('confirm-dialog').showModal();
  },
  async 'discard-confirmed'() {
    $('confirm-dialog').close();
    const { discarded } = await askJson(`/events/dead${selected(discarding)}`, { method: 'DELETE' });
    say(`${plural(discarded, 'event')} discarded.`);
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
      show('explanation', h('p', 'bad', badge('bad', 'cannot be explained')), h('p', 'said', error.message));
    }
  },
};

/** The query that means what a button stands for: one letter, an observer's, or all. */
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
show('explanation', h('p', 'empty', 'What each plugin says of it stands here, in their order: who was asked, who had an answer in the cache, what it decided, what went wrong, how long it took.'));
follow();
