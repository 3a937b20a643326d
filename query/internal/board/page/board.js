// The board: the totals of the stream, drawn.
import { name, parts, place, tagPlace, written } from './address.js';
import { byId, copies, read, setText } from './dom.js';
import { age, clockSeconds, number } from './format.js';
import { List } from './list.js';
import { Movers } from './movers.js';
import { Overview } from './overview.js';
import { People } from './people.js';
import { PersonView } from './person.js';
import { Rows } from './rows.js';
import { post } from './snippets.js';
import { Tabs } from './tabs.js';
import { TagView } from './tag.js';
import { Totals } from './totals.js';

// held is how long the order of the list is kept after the reader's last move over it, settled how long it is kept anyway.
const held = 3_000;
const settled = 5_000;

// unknown is the age of the totals, in milliseconds, from which rates are not shown: until then the last ones are, greyed.
const unknown = 20_000;

const e = {
  state: byId('state'), word: byId('state-word'), age: byId('age'), notice: byId('notice'), degraded: byId('degraded'),
  empty: byId('empty'), now: byId('now'), columns: byId('columns'), text: byId('text'), search: byId('search'),
  common: byId('common'), found: byId('found'), nothing: byId('nothing'), grid: byId('grid'), body: byId('body'),
};

const totals = new Totals();
let known = false; // a snapshot was received
let { text, order, range, common } = parts(location.search);

const stream = new Tabs({
  snapshot(all, asOf) {
    totals.snapshot(all, asOf);
    known = true;
    overview.snapshot();
    show();
  },
  changes(some, asOf, gap) {
    totals.changes(some, asOf, gap);
    show();
  },
  all: () => totals.all(),
  agrees: (tag) => (tag ? totals.get(tag.name)?.total === tag.total : totals.size === 0),
  state: showState,
});

// ingest has an address of its own. Where all of Accrue runs on one machine it is this one, unless another was chosen.
const here = ['localhost', '127.0.0.1', '[::1]'].includes(location.hostname);

// service is what the views know of the service.
const service = {
  totals,
  ingest: here ? 'http://localhost:8080' : 'https://INGEST',
  // live reports whether the service answers.
  live: () => stream.state === 'live' || stream.state === 'late',
  // current reports whether what it says is current.
  current: () => stream.state === 'live',
  known: () => known,
  asOf: () => stream.asOf,
  // now is the service's time.
  now: () => (stream.asOf === null ? Date.now() : stream.asOf + stream.age),
  unknown: (asOf) => service.now() - asOf > unknown,
  // rateOf is the rate of a tag or of all, or null where it is not known.
  rateOf: (tag) => (known && stream.age < unknown ? totals.rate(tag) : null),
};

const movers = new Movers(() => sort());
const overview = new Overview(service, range, (chosen) => {
  range = chosen;
  write();
});

const rows = new Rows(service, () => list.draw());
const list = new List(e.body, {
  open: (tag) => { location.hash = tagPlace(tag); },
  make: () => rows.make(),
  fill: (row, tag) => rows.fill(row, tag),
  drawn: wantHistories,
});

let wanting = 0;
function wantHistories() {
  wanting ||= setTimeout(() => { // not for tags that are scrolled past
    wanting = 0;
    if (!document.hidden && service.live()) rows.want(list.visible().slice(0, 100));
  }, 150);
}

function show() {
  const empty = known && totals.size === 0 && people.contributors === false;
  e.empty.hidden = !empty;
  e.columns.hidden = empty;
  e.now.hidden = empty;
  overview.tick();
  if (order.by === 'change' && service.live()) movers.tick();
  sort();
  tagView.tick();
  showTitle();
}

// The order of the list: what it was made for, when, and of how many tags.
let sorted = '';
let sortedAt = -Infinity;
let touched = -Infinity; // when the reader last moved over the list

// sort sorts the list, unless the reader is about to choose from it.
function sort() {
  const now = performance.now();
  const wanted = `${written({ text, order })} ${totals.size} ${movers.version}`;
  if (wanted === sorted && (now - sortedAt < settled || now - touched < held)) {
    list.draw();
    return;
  }
  const found = order.by === 'change' ? movers.list(totals.list(text, 'name', false), order.falling) : totals.list(text, order.by, order.falling);
  document.documentElement.style.setProperty('--total', `${number(totals.most).length}ch`);
  rows.seek(text, common);
  list.set(found);
  e.grid.setAttribute('aria-rowcount', found.length + 1);
  setText(e.nothing, text ? `No tag contains ${text}.` : '');
  e.nothing.hidden = !known || !text || found.length > 0;
  setText(e.found, text ? `${number(found.length)} of ${number(totals.size)}` : '');
  sorted = wanted;
  sortedAt = now;
}

let wasCut = false;
let noticeTimer = 0;
const words = { connecting: 'Connecting', live: 'Live', late: 'Old numbers', cut: 'Cut off' };

function showState(state) {
  e.state.dataset.state = state;
  document.body.classList.toggle('old', known && state !== 'live');
  clearTimeout(noticeTimer);
  let notice = '';
  if (state === 'cut') {
    notice = stream.asOf
      ? `The connection is cut. These numbers stand still since ${clockSeconds(stream.asOf)}. Trying again.`
      : 'The service does not answer. Trying again.';
  } else if (state === 'late') {
    notice = `There are no newer numbers than of ${clockSeconds(stream.asOf)}.`;
  } else if (wasCut && state === 'live') {
    notice = 'The connection is back. The numbers are live.';
    noticeTimer = setTimeout(() => {
      e.notice.hidden = true;
      setText(e.word, words.live);
    }, 6000);
  }
  e.notice.textContent = notice;
  e.notice.hidden = !notice;
  e.notice.dataset.state = state;
  for (const stale of document.querySelectorAll('.stale')) {
    stale.textContent = state === 'live' ? '' : notice;
    stale.hidden = !stale.textContent;
  }
  setText(e.word, wasCut && state === 'live' ? 'Live again' : words[state]);
  wasCut = state === 'cut';
  showAge();
  showTitle();
}

function showAge() {
  setText(e.age, stream.age === null ? '' : `${age(stream.age)} old`);
  e.state.title = stream.polls ? 'The stream does not come through, so the totals are read every two seconds.' : '';
}

// showTitle says in the tab's title what is open, and whether it is current.
function showTitle() {
  let title = known ? `${number(overview.sum)} counted` : '';
  if (tagView.name !== null) title = `${tagView.name} ${totals.get(tagView.name) ? number(totals.get(tagView.name).total) : ''}`.trim();
  if (person.id !== null) title = person.id;
  const cut = stream.state === 'cut' ? 'Cut off · ' : '';
  const whole = `${cut}${title}${title && ' · '}Accrue`;
  if (document.title !== whole) document.title = whole;
}

function everySecond() {
  stream.tick();
  showAge();
  if (known) totals.advance(stream.asOf);
  if (document.hidden) return;
  people.tick();
  person.tick();
  show();
  wantHistories();
}

// The address holds what is seen, so that it can be shared, and Back closes what is open.
function write() {
  history.replaceState(null, '', `${location.pathname}${written({ text, order, range, common })}${location.hash}`);
}

const closed = (begin) => () => {
  if (location.hash.startsWith(begin)) history.replaceState(null, '', location.pathname + location.search);
  showTitle();
};
const tagView = new TagView(service, closed('#tag/'), (hash) => history.replaceState(null, '', hash));
const person = new PersonView(service, closed('#person/'));
const people = new People(service, show);

function follow() {
  const { view, tag, person: id, range: tagRange } = place(location.hash);
  if (tagView.name !== null && tag !== tagView.name) tagView.close();
  if (person.id !== null && id !== person.id) person.close();
  if (tag) tagView.open(tag, tagRange);
  if (id) person.open(id);
  if (view) e.columns.dataset.view = view;
  else e.columns.dataset.view ??= 'tags';
  for (const link of document.querySelectorAll('.views a')) {
    if (link.hash === `#${e.columns.dataset.view}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  showTitle();
  list.draw();
}

// seek writes the search, the order and the scale where they are shown.
function seek() {
  if (e.text.value !== text) e.text.value = text;
  e.common.checked = common;
  for (const button of e.grid.querySelectorAll('button[data-order]')) {
    const direction = order.falling ? 'descending' : 'ascending';
    button.parentElement.setAttribute('aria-sort', button.dataset.order === order.by ? direction : 'none');
  }
  rows.seek(text, common);
  sort();
}

for (const button of e.grid.querySelectorAll('button[data-order]')) {
  button.addEventListener('click', () => {
    const by = button.dataset.order;
    order = { by, falling: order.by === by ? !order.falling : by !== 'name' };
    write();
    seek();
  });
}
e.text.addEventListener('input', () => {
  text = name(e.text.value); // names contain no other characters
  write();
  seek();
});
e.common.addEventListener('change', () => {
  common = e.common.checked;
  write();
  seek();
});
e.search.addEventListener('submit', (event) => {
  event.preventDefault();
  e.body.querySelector('a[tabindex="0"]')?.focus();
});
document.addEventListener('keydown', (event) => {
  const typing = event.target.closest?.('input, select, textarea, dialog');
  if (event.key !== '/' || typing || event.altKey || event.ctrlKey || event.metaKey || e.columns.hidden) return;
  event.preventDefault();
  e.text.focus();
  e.text.select();
});
for (const kind of ['pointermove', 'keydown', 'focusin']) {
  e.body.addEventListener(kind, () => { touched = performance.now(); }, { passive: true });
}

const curl = post('foo', 4, service.ingest);
byId('curl').textContent = curl;
copies(byId('copy'), () => curl);

for (const input of document.querySelectorAll('input[name=theme]')) {
  input.checked = input.value === (document.documentElement.dataset.theme ?? '');
  input.addEventListener('change', () => {
    if (input.value) document.documentElement.dataset.theme = input.value;
    else delete document.documentElement.dataset.theme;
    localStorage.setItem('accrue theme', input.value);
  });
}

// What it means that a check of the service fails.
const troubles = {
  checkpoints: 'Some totals are old or missing: the service cannot read all of its data.',
  'rejected entries': 'Some increments are not in the totals yet:',
};

// readHealth shows which totals are not complete, and why.
async function readHealth() {
  if (document.hidden || !service.current()) return; // the state says more
  try {
    const { degraded = [] } = await read('health/ready');
    e.degraded.textContent = Object.entries(troubles).flatMap(([check, trouble]) => {
      const details = degraded.filter((d) => d.parameter === check).map((d) => d.detail);
      return details.length > 0 ? [`${trouble} ${details.join('; ')}.`] : [];
    }).join(' ');
    e.degraded.hidden = e.degraded.textContent === '';
  } catch {
    // The state of the stream shows it.
  }
}

addEventListener('hashchange', follow);
addEventListener('popstate', () => {
  ({ text, order, range, common } = parts(location.search));
  overview.show(range);
  seek();
});
document.addEventListener('visibilitychange', () => {
  stream.visible(!document.hidden);
  if (!document.hidden) everySecond();
});
setInterval(everySecond, 1000);
stream.visible(!document.hidden);
follow();
seek();
setInterval(readHealth, 10_000);
