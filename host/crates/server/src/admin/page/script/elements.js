'use strict';

// Creation of elements from data, and updates of the document with the fewest changes.

const $ = (id) => document.getElementById(id);

// Characters that are invisible or change the text around them: control characters, zero-width characters and marks of
// the writing direction. They are shown as escapes. Line ends stay, and have an effect only where CSS allows it.
const UNSEEN = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
const visible = (text) =>
  String(text).replace(UNSEEN, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);

/** Creates an element: `h('td', {class: 'num'}, 'text', child, …)`; a text as second argument is the class. */
function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  const given = typeof attributes === 'string' ? { class: attributes } : attributes ?? {};
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false || value === '') continue;
    const shown = name === 'title' || name.startsWith('aria-') ? visible(value) : value;
    element.setAttribute(name, value === true ? '' : shown);
  }
  for (const child of children.flat(2)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : visible(child));
  }
  return element;
}

/** Isolates the writing direction of external text from the line around it. */
const outside = (text, className) => h('bdi', className, text);

/**
 * Updates `old` to equal `fresh` with the fewest changes: focus, selection, scroll positions and open details stay.
 * Children with a `data-key` are matched by it, others by their position.
 */
function morph(old, fresh) {
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== 'open') old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  morphChildren(old, [...fresh.childNodes]);
}

function morphChildren(old, wanted) {
  const keyed = new Map();
  for (const child of old.children) if (child.dataset.key) keyed.set(child.dataset.key, child);
  let next = old.firstChild;
  for (const fresh of wanted) {
    const key = fresh.dataset?.key;
    const place = next && !next.dataset?.key && next.nodeName === fresh.nodeName ? next : null;
    const match = key ? keyed.get(key) : place;
    if (!match) {
      old.insertBefore(fresh, next);
      continue;
    }
    keyed.delete(key);
    if (match === next) next = next.nextSibling;
    else old.insertBefore(match, next);
    if (match.nodeType === Node.ELEMENT_NODE) morph(match, fresh);
    else if (match.nodeValue !== fresh.nodeValue) match.nodeValue = fresh.nodeValue;
  }
  while (next) {
    const gone = next;
    next = next.nextSibling;
    gone.remove();
  }
}

const show = (id, ...content) => morphChildren($(id), content.flat(2).filter(Boolean));

/** Creates a table with these columns: text, or [text, class]. */
function table(label, columns, bodies) {
  const heads = columns.map((column) => {
    const [text, className] = [column].flat();
    return h('th', { scope: 'col', class: className, role: 'columnheader' }, text);
  });
  // The roles are explicit, because browsers drop them when a narrow screen shows rows as cards.
  return h('table', { 'aria-label': label, role: 'table' },
    h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, heads)), bodies);
}

/** Creates a cell. On a narrow screen, its label precedes it. */
const cell = (className, label, ...content) => h('td', { class: className, 'data-label': label, role: 'cell' }, ...content);
const row = (className, key, ...cells) => h('tr', { class: className, 'data-key': key, role: 'row' }, ...cells);
const badge = (tone, text, title) => h('span', { class: `badge ${tone}`, title }, text);
