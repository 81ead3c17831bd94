// Driver of a real browser. It reads commands as lines of JSON from standard input, `{"do": …}`, and answers each with
// one line, `{"ok": …}` or `{"failed": "reason"}`. The tests in `tests/tests/workshop/page.rs` send the commands.
//
// usage: node page.mjs CHROMIUM FOLDER, where FOLDER contains node_modules and receives the screenshots.

import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

const [executablePath, folder] = process.argv.slice(2);
// The packages are not beside this file, because nothing is installed into the source tree.
const { chromium } = createRequire(join(resolve(folder), 'package.json'))('playwright-core');

/** Time limit of one action, in milliseconds. It is long because the machine may be busy. */
const ACTION_TIMEOUT = 90_000;

/** Disables the sandbox, which root cannot use, and all requests that the browser makes by itself. */
const ARGUMENTS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];

const browser = await chromium.launch({ executablePath, args: ARGUMENTS });
const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, permissions: ['clipboard-read', 'clipboard-write'] });
const page = await context.newPage();
page.setDefaultTimeout(ACTION_TIMEOUT);

/** Errors and warnings of the console, uncaught exceptions, dialogs and content that the policy blocks. */
const complaints = [];
const requests = new Set();
page.on('console', (message) => {
  if (['error', 'warning'].includes(message.type())) complaints.push(`console: ${message.text()}`);
});
page.on('pageerror', (error) => complaints.push(`error: ${error.stack}`));
page.on('dialog', (dialog) => {
  complaints.push(`dialog: ${dialog.message()}`);
  dialog.dismiss();
});
context.on('request', (request) => {
  if (!request.url().startsWith('data:')) requests.add(new URL(request.url()).origin);
});
await page.addInitScript(() => {
  document.addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) =>
    console.error(`blocked by the content security policy: ${violatedDirective} ${blockedURI}`));
});

/** Returns the first element with an accessible role and name, `{role, name}`, or a selector and text, `{at, text}`. */
function find({ role, name, at, text }) {
  const matches = role ? page.getByRole(role, { name, exact: true }) : page.locator(at, text ? { hasText: text } : {});
  return matches.first();
}

const commands = {
  async open({ url }) {
    const response = await page.goto(url);
    return { status: response.status(), headers: response.headers() };
  },
  /** Waits until an element is visible, and returns its text. */
  async see(target) {
    const element = find(target);
    await element.waitFor();
    return element.innerText();
  },
  /** Waits until an element is hidden or absent. */
  gone: (target) => find(target).waitFor({ state: 'hidden' }),
  /** Returns the number of elements that match a selector. */
  count: ({ at }) => page.locator(at).count(),
  click: (target) => find(target).click(),
  fill: ({ role, name, value }) => find({ role, name }).fill(value),
  focus: (target) => find(target).focus(),
  press: ({ key }) => page.keyboard.press(key),
  /** Returns the tag and the text of the element that has the focus. */
  focused: () => page.evaluate(() => `${document.activeElement.localName}: ${document.activeElement.innerText}`),
  /** Returns a computed style property of an element. */
  style: ({ name, ...target }) => find(target).evaluate((element, name) => getComputedStyle(element)[name], name),
  /** Returns the data that outlives the tab: local storage and cookies. */
  storage: () => page.evaluate(() => JSON.stringify([{ ...localStorage }, document.cookie])),
  clipboard: () => page.evaluate(() => navigator.clipboard.readText()),
  async look({ width, scheme }) {
    await page.setViewportSize({ width, height: 900 });
    await page.emulateMedia({ colorScheme: scheme });
  },
  async screenshot({ name }) {
    await page.evaluate(() => window.scrollTo({ top: 0, behavior: 'instant' }));
    await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
  },
  /** Returns the number of pixels of the page beyond the right edge of the window. */
  overflow: () => page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth),
  audit,
  complaints: () => ({ complaints, origins: [...requests] }),
};

/** Returns accessibility errors: missing names and landmarks, skipped heading levels, broken links, low contrast. */
async function audit() {
  const session = await context.newCDPSession(page);
  const { nodes } = await session.send('Accessibility.getFullAXTree');
  const named = ['button', 'link', 'textbox', 'searchbox', 'checkbox', 'dialog', 'region', 'table', 'progressbar', 'navigation'];
  const nameless = nodes
    .filter(({ ignored, role, name }) => !ignored && named.includes(role?.value) && !name?.value)
    .map(({ role, backendDOMNodeId }) => `${role.value} without a name (node ${backendDOMNodeId})`);
  const inPage = await page.evaluate(() => {
    const errors = [];
    let previousLevel = 0;
    for (const { tagName, innerText } of document.querySelectorAll('h1, h2, h3, h4, h5, h6')) {
      const level = Number(tagName[1]);
      if (level > previousLevel + 1) errors.push(`heading "${innerText}" of level ${level} after level ${previousLevel}`);
      previousLevel = level;
    }
    const ids = [...document.querySelectorAll('[id]')].map(({ id }) => id);
    errors.push(...ids.filter((id, nth) => ids.indexOf(id) !== nth).map((id) => `duplicate id: ${id}`));
    for (const link of document.querySelectorAll('a[href^="#"]')) {
      if (!document.getElementById(decodeURIComponent(link.hash.slice(1)))) errors.push(`broken link: ${link.hash}`);
    }
    for (const landmark of ['header', 'main', 'nav']) {
      if (!document.querySelector(landmark)) errors.push(`no ${landmark}`);
    }
    return [...errors, ...lowContrast()];

    /** Returns the text elements with a contrast ratio below 4.5 (WCAG 2, AA). */
    function lowContrast() {
      const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
      const rgba = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
      };
      const background = (element) => {
        for (let at = element; at; at = at.parentElement) {
          const colour = rgba(getComputedStyle(at).backgroundColor);
          if (colour[3] === 255) return colour;
        }
        return [255, 255, 255, 255];
      };
      const luminance = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map((part) => part / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
      };
      const texts = [...document.querySelectorAll('body *')].filter((element) =>
        element.checkVisibility() && !element.disabled && [...element.childNodes].some((node) => node.nodeType === 3 && node.nodeValue.trim()));
      const failures = new Set();
      for (const element of texts) {
        const [a, b] = [rgba(getComputedStyle(element).color), background(element)].map(luminance);
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 4.5) failures.add(`contrast ${contrast.toFixed(2)}: <${element.localName} class="${element.className}">`);
      }
      return [...failures];
    }
  });
  await session.detach();
  return [...nameless, ...inPage];
}

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...rest } = JSON.parse(line);
  let answer;
  try {
    answer = { ok: (await commands[name](rest)) ?? null };
  } catch (error) {
    const pageText = await page.locator('body').innerText().catch(() => '');
    answer = { failed: `${name} ${JSON.stringify(rest)}: ${error.message}\n--- text of the page\n${pageText}` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
