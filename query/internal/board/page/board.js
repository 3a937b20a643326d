// The board: the totals of the stream, drawn.
import { areaPath, drawBars, element } from './charts.js';
import { age, clockSeconds, number, rate } from './format.js';
import { Histories, parse, path } from './history.js';
import { List } from './list.js';
import { People } from './people.js';
import { Tabs } from './tabs.js';
import { TagView } from './tag.js';
import { Totals } from './totals.js';

// held is how long the order of the list is kept after the reader's last move over it.
const held = 3_000;

// minutes is the length of a row's chart, in a box of chart's size.
const minutes = 30;
const chart = { width: 120, height: 24 };

// unknown is the age of the totals, in milliseconds, from which rates are not shown: until then the last ones are, greyed.
const unknown = 20_000;

// pulseSamples is the length of the chart of the total rate, in seconds.
const pulseSamples = 180;

const byId = (id) => document.getElementById(id);
const e = {
  state: byId('state'), word: byId('state-word'), age: byId('age'), notice: byId('notice'), degraded: byId('degraded'), stale: byId('tag-stale'),
  rate: byId('rate'), count: byId('count'), countUnit: byId('count-unit'), sum: byId('sum'), pulse: byId('pulse'),
  empty: byId('empty'), now: byId('now'), columns: byId('columns'), curl: byId('curl'), copy: byId('copy'),
  prefix: byId('prefix'), search: byId('search'), found: byId('found'), nothing: byId('nothing'), nothingPrefix: byId('nothing-prefix'),
  grid: byId('grid'), body: byId('body'),
};

const totals = new Totals();
let known = false; // a snapshot was received
let order = { by: 'total', falling: true };
let touched = -Infinity; // when the reader last moved over the list
let sorted = ''; // the order and prefix of the list
let behindOrder = false; // the list is to be sorted again
const pulse = [];

const setText = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};

const stream = new Tabs({
  snapshot(all, asOf) {
    totals.snapshot(all, asOf);
    known = true;
    behindOrder = true;
    show();
  },
  changes(some, asOf, gap) {
    totals.changes(some, asOf, gap);
    behindOrder = true;
    show();
  },
  all: () => totals.all(),
  agrees: (tag) => (tag ? totals.get(tag.name)?.total === tag.total : totals.size === 0),
  state: showState,
});
const live = () => stream.state === 'live' || stream.state === 'late';
// rateOf is the rate of a tag or of all, or null where it is not known.
const rateOf = (tag) => (known && stream.age < unknown ? totals.rate(tag) : null);
const serverNow = () => (stream.asOf === null ? Date.now() : stream.asOf + stream.age);

const histories = new Histories({
  async load(name) {
    const response = await fetch(path(name, 'minute', minutes, serverNow()), { signal: AbortSignal.timeout(8000) });
    if (!response.ok) throw new Error(response.statusText);
    return parse(await response.json());
  },
  loaded: () => list.draw(),
  now: serverNow,
});

const list = new List(e.body, {
  open: (name) => { location.hash = `tag/${name}`; },
  make() {
    const row = document.createElement('div');
    row.className = 'row';
    row.setAttribute('role', 'row');
    for (const cell of ['name', 'chart', 'rate', 'total']) {
      const span = document.createElement('span');
      span.className = cell;
      span.setAttribute('role', 'gridcell');
      row.append(span);
    }
    const [name, bars] = row.children;
    const link = document.createElement('a');
    link.append(...['span', 'b', 'span'].map((part) => document.createElement(part)));
    name.append(link);
    bars.append(element('svg', { role: 'img', 'aria-label': '', viewBox: `0 0 ${chart.width} ${chart.height}`, preserveAspectRatio: 'none' }));
    return row;
  },
  fill(row, tag) {
    const [name, bars, perSecond, total] = row.children;
    const link = name.firstChild;
    const text = e.prefix.value;
    if (link.dataset.of !== `${text} ${tag.name}`) {
      link.dataset.of = `${text} ${tag.name}`;
      link.href = `#tag/${tag.name}`;
      const [before, found, after] = link.children;
      const at = tag.name.indexOf(text);
      before.textContent = tag.name.slice(0, at);
      found.textContent = text;
      after.textContent = tag.name.slice(at + text.length);
    }
    setText(perSecond, rate(rateOf(tag)));
    perSecond.classList.toggle('none', tag.recent === 0);
    const sum = number(tag.total);
    if (total.textContent !== sum) {
      // A row that shows another tag has moved, not changed.
      if (row.shows === tag.name) flash(total);
      total.textContent = sum;
    }
    const history = histories.get(tag.name);
    if (row.shows !== tag.name || row.history !== history) {
      const svg = bars.firstChild;
      if (history) {
        drawBars(svg, history, chart.width, chart.height);
        svg.setAttribute('aria-label', `${number(history.changes.reduce((a, b) => a + b, 0))} in ${minutes} minutes`);
      } else {
        svg.replaceChildren();
        svg.setAttribute('aria-label', 'loading');
      }
      row.history = history;
    }
    row.shows = tag.name;
  },
  drawn: wantHistories,
});

// flash marks a number that has just changed.
const calm = matchMedia('(prefers-reduced-motion: reduce)');
function flash(node) {
  if (calm.matches) return;
  node.classList.toggle('changed');
  node.classList.toggle('changed-again', !node.classList.contains('changed'));
}

let wanting = 0;
function wantHistories() {
  wanting ||= setTimeout(() => { // not for tags that are scrolled past
    wanting = 0;
    if (!document.hidden && live()) histories.want(list.visible());
  }, 150);
}

function show() {
  const empty = known && totals.size === 0 && people.contributors === false;
  e.empty.hidden = !empty;
  e.columns.hidden = empty;
  e.now.hidden = empty;
  setText(e.count, known ? number(totals.size) : '–');
  setText(e.countUnit, totals.size === 1 ? 'tag' : 'tags');
  setText(e.sum, known ? number(totals.sum) : '–');
  setText(e.rate, rate(rateOf()));
  sort();
  view.tick();
}

// sort sorts the list, unless the reader is about to choose from it.
function sort() {
  const prefix = e.prefix.value;
  const now = `${order.by} ${order.falling} ${prefix}`;
  if (now !== sorted || (behindOrder && performance.now() - touched > held)) {
    const found = totals.list(prefix, order.by, order.falling);
    list.set(found);
    e.grid.setAttribute('aria-rowcount', found.length + 1);
    e.nothing.hidden = !known || found.length > 0 || !prefix;
    setText(e.nothingPrefix, prefix);
    setText(e.found, prefix ? `${number(found.length)} of ${number(totals.size)}` : '');
    sorted = now;
    behindOrder = false;
  } else {
    list.draw();
  }
}

let wasCut = false;
let noticeTimer = 0;

function showState(state) {
  const words = { connecting: 'Connecting', live: 'Live', late: 'Old numbers', cut: 'Cut off' };
  e.state.dataset.state = state;
  document.body.classList.toggle('old', known && state !== 'live');
  clearTimeout(noticeTimer);
  let notice = '';
  if (state === 'cut') {
    notice = stream.asOf
      ? `The connection is cut. These numbers stand still since ${clockSeconds(stream.asOf)}. Trying again.`
      : 'The service does not answer. Trying again.';
  } else if (state === 'late') {
    notice = 'The service answers, but has no newer numbers.';
  } else if (wasCut && state === 'live') {
    notice = 'The connection is back. The numbers are live.';
    noticeTimer = setTimeout(() => { e.notice.hidden = true; }, 6000);
  }
  e.notice.textContent = notice;
  e.notice.hidden = !notice;
  e.notice.dataset.state = state;
  e.stale.textContent = state === 'live' ? '' : notice;
  e.stale.hidden = !e.stale.textContent;
  setText(e.word, wasCut && state === 'live' ? 'Live again' : words[state]);
  if (wasCut && state === 'live') setTimeout(() => { if (stream.state === 'live') setText(e.word, words.live); }, 6000);
  wasCut = state === 'cut';
  showAge();
}

function showAge() {
  setText(e.age, stream.age === null ? '' : `${age(stream.age)} old`);
}

// drawPulse draws the total rate since the board was opened.
function drawPulse() {
  const size = { width: 600, height: 72 };
  const { line, area } = areaPath(pulse, Math.max(30, pulse.length), size.width, size.height - 2, Math.max(1, ...pulse) * 1.08);
  if (e.pulse.children.length === 0) {
    e.pulse.setAttribute('viewBox', `0 -1 ${size.width} ${size.height}`);
    e.pulse.append(element('path', { class: 'area' }), element('path', { class: 'line' }));
  }
  e.pulse.firstChild.setAttribute('d', area);
  e.pulse.lastChild.setAttribute('d', line);
}

function everySecond() {
  stream.tick();
  showAge();
  if (!known) return;
  totals.advance(stream.asOf);
  const now = stream.state === 'live' ? totals.rate() : null;
  if (now !== null || pulse.length > 0) pulse.push(now); // what is not known is a gap
  if (pulse.length > pulseSamples) pulse.shift();
  if (document.hidden) return;
  drawPulse();
  behindOrder ||= order.by === 'rate';
  show();
  wantHistories();
}

// The address names the open tag, so that it can be shared, and Back closes it.
const view = new TagView(totals, rateOf, live, serverNow, () => {
  if (location.hash.startsWith('#tag/')) history.replaceState(null, '', location.pathname + location.search);
});

function follow() {
  const hash = location.hash.slice(1); // anything: it is compared, not decoded
  const name = hash.startsWith('tag/') ? hash.slice(4) : '';
  if (/^[a-z_]{3,15}$/.test(name)) {
    view.open(name);
  } else if (view.name !== null) {
    view.close();
  }
  if (!name) e.columns.dataset.view = hash === 'people' ? 'people' : 'tags';
  for (const link of document.querySelectorAll('.views a')) {
    if (link.hash === `#${e.columns.dataset.view}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  list.draw();
}

for (const button of e.grid.querySelectorAll('button[data-order]')) {
  button.addEventListener('click', () => {
    const by = button.dataset.order;
    order = { by, falling: order.by === by ? !order.falling : by !== 'name' };
    for (const other of e.grid.querySelectorAll('button[data-order]')) {
      other.parentElement.setAttribute('aria-sort', other !== button ? 'none' : order.falling ? 'descending' : 'ascending');
    }
    show();
  });
}
e.prefix.addEventListener('input', () => {
  const name = e.prefix.value.toLowerCase().replace(/[^a-z_]/g, '');
  if (name !== e.prefix.value) e.prefix.value = name; // names contain no other characters
  show();
});
e.search.addEventListener('submit', (event) => {
  event.preventDefault();
  e.body.querySelector('a[tabindex="0"]')?.focus();
});
for (const kind of ['pointermove', 'keydown', 'focusin']) {
  e.body.addEventListener(kind, () => { touched = performance.now(); }, { passive: true });
}

// ingest has an address of its own. Where all of Accrue runs on one machine it is this one, unless another was chosen.
const here = ['localhost', '127.0.0.1', '[::1]'].includes(location.hostname);
const ingest = here ? 'http://localhost:8080' : 'https://INGEST';
const curl = `curl -H 'Content-Type: application/json' -d '{"name":"foo","value":4}' ${ingest}/increments`;
e.curl.textContent = curl;
e.copy.hidden = !navigator.clipboard;
e.copy.addEventListener('click', async () => {
  await navigator.clipboard.writeText(curl);
  e.copy.textContent = 'Copied';
  setTimeout(() => { e.copy.textContent = 'Copy'; }, 2000);
});

// readHealth shows which partitions the service cannot read: their totals are old or missing.
async function readHealth() {
  if (document.hidden || !live()) return;
  try {
    const response = await fetch('health/ready', { signal: AbortSignal.timeout(8000) });
    if (!response.ok) return; // the state of the stream shows it
    const { degraded = [] } = await response.json();
    const partitions = degraded.filter((d) => d.parameter === 'checkpoints');
    e.degraded.textContent = partitions.length > 0
      ? `Some totals are old or missing: the service cannot read all of its data. ${partitions.map((d) => d.detail).join('; ')}` : '';
    e.degraded.hidden = partitions.length === 0;
  } catch {
    // The state of the stream shows it.
  }
}

const people = new People(live, show);
addEventListener('hashchange', follow);
document.addEventListener('visibilitychange', () => {
  stream.visible(!document.hidden);
  if (!document.hidden) everySecond();
});
setInterval(everySecond, 1000);
follow();
stream.visible(!document.hidden);
people.start();
setInterval(readHealth, 10_000);
readHealth();
