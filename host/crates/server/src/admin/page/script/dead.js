// Section of the dead-letter queue.

const deadButton = (action, text, name, data) =>
  h('button', { type: 'button', 'data-action': action, 'aria-label': name, ...data }, text);

function drawDead() {
  const { total = [], dead_letters: all = [] } = state.dead ?? {};
  show('dead-all', total.length > 1 && deadButton('redrive', 'Redrive all', 'Redrive all dead letters'));
  if (all.length === 0) {
    show('dead-list', h('p', 'empty', 'None. An event whose delivery attempts all failed (events.max_attempts) appears here until it is redriven or purged.'));
    return;
  }
  show('dead-list', total.map(({ observer, count: number }) => deadOf(observer, number, all.filter((letter) => letter.observer === observer))));
}

function deadOf(observer, number, letters) {
  const of = `${plural(number, 'dead letter')} of ${observer}`;
  const columns = ['Dead-lettered', 'Event', 'Call', ['Attempts', 'num'], 'Last error', 'Actions'];
  return h('div', { 'data-key': observer, role: 'group', 'aria-label': of },
    h('div', 'step inset', h('h3', null, outside(observer), `: ${count(number)}`),
      deadButton('redrive', 'Redrive all', `Redrive ${of}`, { 'data-observer': observer }),
      deadButton('purge', 'Purge all…', `Purge ${of}`, { 'data-observer': observer, 'data-what': of }),
      number > letters.length && h('span', 'dim', `showing the first ${letters.length}`)),
    table(of, columns, h('tbody', { role: 'rowgroup' }, letters.map((letter) => deadRow(letter)))));
}

function deadRow({ id, kind, call, dead_lettered: at, attempts, error }) {
  const what = `event ${id}`;
  return row('', `${id}`,
    cell('', '', time(at)), cell('', '', kind.replaceAll('_', ' ')), cell('', '', outside(short(call), 'mono')),
    cell('num', 'attempts', count(attempts)), cell('wide text', '', h('div', 'untrusted', error)),
    cell('', '', deadButton('redrive', 'Redrive', `Redrive ${what}`, { 'data-id': id }), ' ',
      deadButton('purge', 'Purge…', `Purge ${what}`, { 'data-id': id, 'data-what': 'this dead letter' })));
}
