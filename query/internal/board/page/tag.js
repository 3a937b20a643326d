// One tag, opened: its numbers, live, and its history.
import { barsPath, ceiling, element } from './charts.js';
import { ago, clock, compact, date, number, rate } from './format.js';
import { parse, path } from './history.js';

// Each range has count periods, of which group make one bar; ticks are the minutes between two labels of the axis.
const ranges = {
  minute: { resolution: 'minute', count: 180, group: 1, unit: 'by the minute', title: 'Minute', span: 'the last 3 hours', ticks: 30 },
  day: { resolution: 'minute', count: 1440, group: 5, unit: 'by five minutes', title: 'Five minutes from', span: 'the last 24 hours', ticks: 240 },
  hour: { resolution: 'hour', count: 168, group: 1, unit: 'by the hour', title: 'Hour from', span: 'the last 7 days', ticks: 1440 },
};

// every is the time between two reads of a history, and again the time after a failed one.
const every = 60_000;
const again = 5_000;

// The chart's box, and what its axes take of it.
const box = { width: 600, height: 220, left: 44, bottom: 24, top: 8 };

const label = (range, time) => (range === 'hour' ? `${date(time)}, ${clock(time)}` : clock(time));

export class TagView {
  #totals;
  #rateOf;
  #live;
  #now;
  #name = null;
  #range = 'minute';
  #history = null;
  #read = -Infinity; // when the history was last requested
  #detail = -Infinity;
  #asked = 0; // numbers the requests, to ignore late answers
  #e;

  // rateOf(tag) returns a tag's rate or null, live() reports whether the service answers, now() returns the server's time, and onClose is called when the view was
  // closed.
  constructor(totals, rateOf, live, now, onClose) {
    this.#totals = totals;
    this.#rateOf = rateOf;
    this.#live = live;
    this.#now = now;
    const byId = (id) => document.getElementById(id);
    this.#e = {
      dialog: byId('tag'), name: byId('tag-name'), total: byId('tag-total'), rate: byId('tag-rate'),
      increments: byId('tag-increments'), updated: byId('tag-updated'), sum: byId('tag-sum'), readout: byId('tag-read'),
      chart: byId('tag-chart'), nothing: byId('tag-nothing'), rows: byId('tag-rows'), period: byId('tag-period'),
    };
    byId('tag-close').addEventListener('click', () => this.#e.dialog.close());
    this.#e.dialog.addEventListener('click', (event) => {
      if (event.target === this.#e.dialog) this.#e.dialog.close(); // outside of it
    });
    this.#e.dialog.addEventListener('close', () => {
      this.#name = null;
      onClose();
    });
    for (const input of this.#e.dialog.querySelectorAll('input[name=range]')) {
      input.addEventListener('change', () => {
        this.#range = input.value;
        this.#forget();
        this.tick();
      });
    }
    this.#e.dialog.querySelector('details').addEventListener('toggle', () => this.#table());
    this.#e.chart.addEventListener('pointermove', (event) => this.#point(event));
    this.#e.chart.addEventListener('pointerleave', () => this.#point(null));
  }

  get name() {
    return this.#name;
  }

  open(name) {
    if (name === this.#name) return;
    this.#name = name;
    this.#e.name.textContent = name;
    for (const e of [this.#e.increments, this.#e.updated]) e.textContent = '–';
    this.#detail = -Infinity;
    this.#forget();
    if (!this.#e.dialog.open) this.#e.dialog.showModal();
    this.tick();
  }

  close() {
    this.#e.dialog.close();
  }

  // tick updates the numbers, and reads what is due.
  tick() {
    if (this.#name === null) return;
    const tag = this.#totals.get(this.#name);
    this.#e.total.textContent = tag ? number(tag.total) : '–';
    this.#e.rate.textContent = tag ? rate(this.#rateOf(tag)) : '–';
    if (document.hidden) return;
    if (!this.#live()) {
      if (!this.#history) this.#say('The history cannot be read: the connection is cut. Trying again.');
      return;
    }
    const now = performance.now();
    if (now - this.#detail > 2000) {
      this.#detail = now;
      this.#readDetail(this.#name);
    }
    if (now - this.#read > (this.#history ? every : again)) {
      this.#read = now;
      this.#readHistory(this.#name, this.#range);
    }
  }

  #forget() {
    this.#history = null;
    this.#read = -Infinity;
    this.#e.sum.textContent = '';
    this.#e.readout.textContent = '';
    this.#e.nothing.hidden = true;
    this.#e.chart.replaceChildren();
    this.#e.rows.replaceChildren();
  }

  async #readDetail(name) {
    try {
      const response = await fetch(`tags/${encodeURIComponent(name)}`, { signal: AbortSignal.timeout(8000) });
      if (!response.ok || name !== this.#name) return;
      const body = await response.json();
      const now = Date.parse(body.as_of) + body.lag_ms;
      this.#e.increments.textContent = number(body.increments);
      this.#e.updated.textContent = ago(now - Date.parse(body.updated_at));
    } catch {
      // The state of the stream shows it.
    }
  }

  async #readHistory(name, range) {
    const asked = ++this.#asked;
    const { resolution, count, group } = ranges[range];
    let failure = 'The history cannot be read at the moment. Trying again.';
    try {
      const response = await fetch(path(name, resolution, count, this.#now(), group), { signal: AbortSignal.timeout(8000) });
      if (response.status === 404) failure = 'There is no tag of this name.';
      if (!response.ok) throw new Error(response.statusText);
      const history = parse(await response.json(), group);
      if (asked !== this.#asked || name !== this.#name) return;
      this.#history = history;
      this.#e.nothing.hidden = true;
      this.#draw();
    } catch {
      if (asked !== this.#asked || name !== this.#name) return;
      this.#say(failure);
    }
  }

  // say shows why there is no history.
  #say(text) {
    this.#e.nothing.textContent = text;
    this.#e.nothing.hidden = false;
  }

  #draw() {
    const { changes, closed, from, period } = this.#history;
    const range = ranges[this.#range];
    const sum = changes.reduce((a, b) => a + b, 0);
    this.#e.sum.textContent = `${number(sum)} in ${range.span}, ${range.unit}`;
    const { width, height, left, bottom, top } = box;
    const most = ceiling(Math.max(1, ...changes));
    const plot = { width: width - left, height: height - bottom - top };
    const svg = this.#e.chart;
    svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    svg.setAttribute('aria-label', `Changes of ${this.#name} in ${range.span}`);
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const y = top + plot.height * (1 - share);
      parts.push(element('line', { class: share ? 'line' : 'line base', x1: left, x2: width, y1: y, y2: y }));
      if (share * most === Math.floor(share * most)) {
        parts.push(element('text', { x: left - 8, y: y + 4, 'text-anchor': 'end' }, compact(share * most)));
      }
    }
    const step = plot.width / changes.length;
    for (let i = 0; i < changes.length; i++) {
      const time = from + i * period;
      const here = new Date(time);
      const minutes = here.getHours() * 60 + here.getMinutes();
      // The first period after it, where the time zone's midnight is not the beginning of one.
      if (minutes % range.ticks >= period / 60_000) continue;
      const x = left + i * step;
      if (x > width - 28) continue;
      parts.push(element('line', { class: 'tick', x1: x, x2: x, y1: top + plot.height, y2: top + plot.height + 4 }));
      parts.push(element('text', { x, y: height - 6, 'text-anchor': i === 0 ? 'start' : 'middle' },
        range.ticks === 1440 ? date(time) : clock(time)));
    }
    const bars = element('g', { transform: `translate(${left} ${top})` },
      element('path', { class: 'bars', d: barsPath(changes, 0, closed, plot.width, plot.height, most) }),
      element('path', { class: 'bars open', d: barsPath(changes, closed, changes.length, plot.width, plot.height, most) }));
    const mark = element('rect', { class: 'mark', y: top, width: Math.max(1.5, step), height: plot.height, visibility: 'hidden' });
    svg.replaceChildren(...parts, mark, bars);
    this.#table();
  }

  // table fills the table of changes, the latest first, when it is open.
  #table() {
    if (!this.#history || !this.#e.dialog.querySelector('details').open) return;
    const { changes, from, period } = this.#history;
    const range = ranges[this.#range];
    this.#e.period.textContent = range.title;
    const rows = [];
    for (let i = changes.length - 1; i >= 0; i--) {
      if (changes[i] === 0) continue;
      const row = document.createElement('tr');
      const head = document.createElement('th');
      head.scope = 'row';
      head.textContent = label(this.#range, from + i * period);
      const cell = document.createElement('td');
      cell.textContent = number(changes[i]);
      row.append(head, cell);
      rows.push(row);
    }
    this.#e.rows.replaceChildren(...rows);
  }

  // point says what was counted at the pointer.
  #point(event) {
    const mark = this.#e.chart.querySelector('.mark');
    if (!mark || !this.#history) return;
    const bounds = this.#e.chart.getBoundingClientRect();
    const { changes, from, period } = this.#history;
    const step = (box.width - box.left) / changes.length;
    const x = event ? ((event.clientX - bounds.left) / bounds.width) * box.width - box.left : -1;
    const i = Math.floor(x / step);
    const on = i >= 0 && i < changes.length;
    mark.setAttribute('visibility', on ? 'visible' : 'hidden');
    mark.setAttribute('x', box.left + i * step);
    this.#e.readout.textContent = on ? `${label(this.#range, from + i * period)}: ${number(changes[i])}` : '';
  }
}
