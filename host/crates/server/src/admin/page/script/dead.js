// Dead letters.

const deadButton = (action, text, name, data) =>
  h('button', { type: 'button', 'data-action': action, 'aria-label': name, ...data }, text);

function drawDead() {
  const { total = [], dead = [] } = state.dead ?? {};
  show('dead-all', total.length > 1 && deadButton('retry', 'Retry all', 'Retry all dead letters'));
  if (dead.length === 0) {
    show('dead-list', h('p', 'empty', 'None. An event that an observer could not take, however often it was told, would stand here until it is told once more or discarded.'));
    return;
  }
  show('dead-list', total.map(({ observer, count: number }) => deadOf(observer, number, dead.filter((letter) => letter.observer === observer))));
}

function deadOf(observer, number, letters) {
  const of = `${plural(number, 'dead letter')} of ${observer}`;
  const columns = ['Given up', 'Event', 'Call', ['Attempts', 'num'], 'Last error', 'Do'];
  return h('div', { 'data-key': observer, role: 'group', 'aria-label': of },
    h('div', 'step inset', h('h3', null, outside(observer), `: ${count(number)}`),
      deadButton('retry', 'Retry all', `Retry ${of}`, { 'data-observer': observer }),
      deadButton('discard', 'Discard all…', `Discard ${of}`, { 'data-observer': observer, 'data-what': of }),
      number > letters.length && h('span', 'dim', `the first ${letters.length} are shown`)),
    table(of, columns, h('tbody', { role: 'rowgroup' }, letters.map((letter) => deadRow(letter)))));
}

function deadRow({ id, kind, call, given_up: at, attempts, error }) {
  const what = `event ${id}`;
  return row('', `${id}`,
    cell('', '', time(at)), cell('', '', kind.replaceAll('_', ' ')), cell('', '', outside(short(call), 'mono')),
    cell('num', 'attempts', count(attempts)), cell('wide text', '', h('div', 'said', error)),
    cell('', '', deadButton('retry', 'Retry', `Retry ${what}`, { 'data-id': id }), ' ',
      deadButton('discard', 'Discard…', `Discard ${what}`, { 'data-id': id, 'data-what': 'this dead letter' })));
}
