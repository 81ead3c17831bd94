'use strict';

// Elements from data, and the least change that makes what is shown like them.

const $ = (id) => document.getElementById(id);

// Characters that would be invisible, or change what stands around them: controls, zero-width ones, the switches of
// writing direction. They are shown as what they are. Line ends stay, and mean something only where CSS says so.
const UNSEEN = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
const visible = (text) =>
  String(text).replace(UNSEEN, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);

/** An element: `h('td', {class: 'num'}, 'text', child, …)`; a text in the second place is the class. */
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

/** Text from outside in a line of ours: its writing direction ends with it. */
const outside = (text, className) => h('bdi', className, text);

/**
 * Makes `old` like `fresh` with as few changes as possible: focus, selection, scroll positions and opened details stay.
 * Children with a `data-key` are found again by it, others by their place.
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

/** A table with these columns: text, or [text, class]. */
function table(label, columns, bodies) {
  const heads = columns.map((column) => {
    const [text, className] = [column].flat();
    return h('th', { scope: 'col', class: className, role: 'columnheader' }, text);
  });
  // Roles are said again, as browsers forget them where a narrow screen lays rows out as cards.
  return h('table', { 'aria-label': label, role: 'table' },
    h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, heads)), bodies);
}

/** A cell; on a narrow screen its label stands before it. */
const cell = (className, label, ...content) => h('td', { class: className, 'data-label': label, role: 'cell' }, ...content);
const row = (className, key, ...cells) => h('tr', { class: className, 'data-key': key, role: 'row' }, ...cells);
const badge = (tone, text, title) => h('span', { class: `badge ${tone}`, title }, text);
