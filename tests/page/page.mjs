// A real browser at the end of a line: takes orders as lines of JSON from its standard input, `{"do": …}`, and answers
// each with a line, `{"ok": …}` or `{"failed": "why"}`. What is to be seen, and when, is said by `tests/tests/workshop/page.rs`.
//
// usage: node page.mjs CHROMIUM FOLDER, where FOLDER has node_modules, and takes the screenshots.

import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

const [executablePath, folder] = process.argv.slice(2);
// Not beside this file, as nothing is installed into the source tree.
const { chromium } = createRequire(join(resolve(folder), 'package.json'))('playwright-core');

/** For anything that should come at once but may be slow on a busy machine, in milliseconds. */
const PATIENCE = 90_000;

/** What a browser would do beside showing the page: no sandbox for root, and no word to anybody. */
const ARGUMENTS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];

const browser = await chromium.launch({ executablePath, args: ARGUMENTS });
const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, permissions: ['clipboard-read', 'clipboard-write'] });
const page = await context.newPage();
page.setDefaultTimeout(PATIENCE);

/** What should not be: errors in the console, refused contents, requests to elsewhere. */
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
    console.error(`refused by the content security policy: ${violatedDirective} ${blockedURI}`));
});

/** An element by what it is for people, `{role, name}`, or by a selector and the text in it, `{at, text}`. */
function find({ role, name, at, text }) {
  const found = role ? page.getByRole(role, { name, exact: true }) : page.locator(at, text ? { hasText: text } : {});
  return found.first();
}

const orders = {
  async open({ url }) {
    const response = await page.goto(url);
    return { status: response.status(), headers: response.headers() };
  },
  /** Waits until it is there to be seen; its text. */
  async see(what) {
    const element = find(what);
    await element.waitFor();
    return element.innerText();
  },
  /** Waits until it is not. */
  gone: (what) => find(what).waitFor({ state: 'hidden' }),
  /** How many there are now. */
  count: ({ at }) => page.locator(at).count(),
  click: (what) => find(what).click(),
  fill: ({ role, name, value }) => find({ role, name }).fill(value),
  focus: (what) => find(what).focus(),
  press: ({ key }) => page.keyboard.press(key),
  /** What has the focus, as a person would name it. */
  focused: () => page.evaluate(() => `${document.activeElement.localName}: ${document.activeElement.innerText}`),
  /** A colour or the like, as it comes out. */
  style: ({ name, ...what }) => find(what).evaluate((element, name) => getComputedStyle(element)[name], name),
  /** All that outlives the tab. */
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
  /** How many pixels of the page are beyond the right edge. */
  overflow: () => page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth),
  audit,
  complaints: () => ({ complaints, origins: [...requests] }),
};

/** What somebody who does not see the page would stumble over. */
async function audit() {
  const session = await context.newCDPSession(page);
  const { nodes } = await session.send('Accessibility.getFullAXTree');
  const named = ['button', 'link', 'textbox', 'searchbox', 'checkbox', 'dialog', 'region', 'table', 'progressbar', 'navigation'];
  const nameless = nodes
    .filter(({ ignored, role, name }) => !ignored && named.includes(role?.value) && !name?.value)
    .map(({ role, backendDOMNodeId }) => `${role.value} without a name (node ${backendDOMNodeId})`);
  const inPage = await page.evaluate(() => {
    const found = [];
    let before = 0;
    for (const { tagName, innerText } of document.querySelectorAll('h1, h2, h3, h4, h5, h6')) {
      const level = Number(tagName[1]);
      if (level > before + 1) found.push(`heading "${innerText}" of level ${level} after one of level ${before}`);
      before = level;
    }
    const ids = [...document.querySelectorAll('[id]')].map(({ id }) => id);
    found.push(...ids.filter((id, nth) => ids.indexOf(id) !== nth).map((id) => `id ${id} twice`));
    for (const link of document.querySelectorAll('a[href^="#"]')) {
      if (!document.getElementById(decodeURIComponent(link.hash.slice(1)))) found.push(`link to nowhere: ${link.hash}`);
    }
    for (const landmark of ['header', 'main', 'nav']) {
      if (!document.querySelector(landmark)) found.push(`no ${landmark}`);
    }
    return [...found, ...faint()];

    /** Text that does not stand out from its ground by 4.5 (WCAG 2, AA). */
    function faint() {
      const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
      const rgba = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
      };
      const ground = (element) => {
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
      const weak = new Set();
      for (const element of texts) {
        const [a, b] = [rgba(getComputedStyle(element).color), ground(element)].map(luminance);
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 4.5) weak.add(`contrast ${contrast.toFixed(2)}: <${element.localName} class="${element.className}">`);
      }
      return [...weak];
    }
  });
  await session.detach();
  return [...nameless, ...inPage];
}

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...rest } = JSON.parse(line);
  let answer;
  try {
    answer = { ok: (await orders[name](rest)) ?? null };
  } catch (error) {
    const seen = await page.locator('body').innerText().catch(() => '');
    answer = { failed: `${name} ${JSON.stringify(rest)}: ${error.message}\n--- the page says\n${seen}` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
