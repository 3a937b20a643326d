// One tag, opened: its numbers, live, its history, and how to count and show it.
import { tagPlace } from './address.js';
import { Chart } from './chart.js';
import { byId, copies, node, read, setText } from './dom.js';
import { ago, change, full, number, rate } from './format.js';
import { choices, period, ranges } from './ranges.js';
import { minute, query, Series } from './series.js';
import { Sheet } from './sheet.js';
import { snippets } from './snippets.js';

// every is the time between two reads of a history, again that after a failed one, often that between two of the rest.
const every = 60_000;
const again = 5_000;
const often = 2_000;

const shown = ['3h', '24h', '7d', '30d'];

export class TagView {
  #service; // {totals, rateOf, asOf(), now(), live(), current(), ingest}
  #sheet;
  #chart;
  #check;
  #name = null;
  #range = '3h';
  #total = false; // the chart is of the total
  #detail = null;
  #histories = {}; // by resolution
  #due = {}; // when each is to be read
  #failure = '';
  #snippet = 'curl';

  // closed is called when the reader has closed the sheet, chosen with a range.
  constructor(service, closed, chosen) {
    this.#service = service;
    this.#sheet = new Sheet(byId('tag'), () => {
      this.#name = null;
      closed();
    });
    this.#chart = new Chart(byId('tag-chart'));
    this.#check = choices(byId('tag-ranges'), 'tag-range', shown, this.#range, (range) => {
      this.#range = range;
      this.tick();
      chosen(tagPlace(this.#name, range === '3h' ? '' : range));
    });
    for (const input of document.querySelectorAll('input[name=tag-kind]')) {
      input.addEventListener('change', () => {
        this.#total = input.value === 'total';
        this.#draw();
      });
    }
    byId('tag-table').addEventListener('toggle', () => this.#table());
    for (const input of document.querySelectorAll('input[name=snippet]')) {
      input.addEventListener('change', () => {
        this.#snippet = input.value;
        this.#writeSnippet();
      });
    }
    copies(byId('tag-copy'), () => byId('tag-snippet').textContent);
    copies(byId('tag-link'), () => location.href);
    byId('tag-export').addEventListener('click', () => this.#export());
  }

  get name() {
    return this.#name;
  }

  open(name, range) {
    this.#range = shown.includes(range) ? range : '3h';
    this.#check(this.#range);
    if (name !== this.#name) {
      this.#name = name;
      setText(byId('tag-name'), name);
      this.#detail = null;
      this.#histories = {};
      this.#due = {};
      this.#failure = '';
      this.#writeSnippet();
    }
    this.#sheet.open();
    this.tick();
  }

  close() {
    this.#sheet.close();
  }

  // tick reads what is due, and brings the sheet up to date.
  tick() {
    if (this.#name === null) return;
    if (!document.hidden && this.#service.live()) {
      this.#when('detail', often, async (path) => { this.#detail = await read(path); }, '');
      for (const resolution of new Set(['day', 'hour', ranges[this.#range].resolution])) {
        const count = { minute: this.#range === '3h' ? 180 : 1440, hour: 168, day: 30 }[resolution];
        const key = `${resolution} ${count}`;
        this.#when(key, every, async (path, current) => {
          const series = Series.parse(await read(path));
          if (current()) this.#histories[key] = series;
        }, `/history?${query(resolution, count, this.#service.now())}`);
      }
    }
    this.#draw();
  }

  // when reads something of the tag if that is due.
  async #when(key, interval, call, path) {
    const now = performance.now();
    if (now < (this.#due[key] ?? 0)) return;
    this.#due[key] = now + interval;
    const name = this.#name;
    const current = () => name === this.#name;
    const due = this.#due;
    try {
      await call(`tags/${encodeURIComponent(name)}${path}`, current);
      if (current()) this.#failure = '';
    } catch (error) {
      due[key] = performance.now() + Math.min(interval, again);
      if (current()) this.#failure = error.status === 404 ? 'There is no tag of this name.' : 'The history cannot be read at the moment. Trying again.';
    }
    if (current()) this.#draw();
  }

  #draw() {
    if (this.#name === null) return;
    const { totals, rateOf, asOf, now, live } = this.#service;
    const tag = totals.get(this.#name);
    const all = Object.values(this.#histories);
    // By the stream or an answer, whichever is later: so the total and the histories agree.
    const detail = this.#detail?.name === this.#name ? this.#detail : null;
    const total = Math.max(tag?.total ?? 0, detail?.total ?? 0, ...all.map((series) => series.total ?? 0));
    const known = tag !== undefined || detail !== null;
    if (known) for (const series of all) series.advance(total, asOf());
    setText(byId('tag-total'), known ? number(total) : '–');
    setText(byId('tag-rate'), tag ? rate(rateOf(tag)) : '–');
    setText(byId('tag-increments'), detail ? number(detail.increments) : '–');
    const updated = Math.max(tag?.changed ?? 0, detail ? Date.parse(detail.updated_at) : 0);
    setText(byId('tag-updated'), updated ? ago(now() - updated) : '–');
    byId('tag-updated').title = updated ? full(updated) : '';
    const days = this.#histories['day 30'];
    const today = days?.values.at(-1) ?? null;
    setText(byId('tag-today'), days ? number(today) : '–');
    setText(byId('tag-week'), days ? number(days.last(7).sum()) : '–');
    setText(byId('tag-month'), days ? number(days.sum()) : '–');
    setText(byId('tag-against'), days ? this.#against(days, today, now()) : '–');
    this.#drawChart(total, now());
    const nothing = byId('tag-nothing');
    const series = this.#series();
    let failure = this.#failure;
    if (!live() && !series) failure = 'The history cannot be read: there is no connection. Trying again.';
    setText(nothing, failure);
    nothing.hidden = !failure;
  }

  // against compares today with yesterday until the same time, as far as hours tell.
  #against(days, today, now) {
    const hours = this.#histories['hour 168'];
    if (!hours || days.length < 2) return '–';
    let last = 0; // what the last 24 hours have of yesterday
    const from = now - 24 * 60 * minute;
    for (let i = 0; i < hours.length; i++) {
      const [begin, end] = [Math.max(hours.starts[i], from), Math.min(hours.starts[i + 1], days.starts.at(-2))];
      if (end > begin) last += (hours.values[i] ?? 0) * ((end - begin) / (hours.starts[i + 1] - hours.starts[i]));
    }
    return change(today, Math.max(0, days.values.at(-2) - last));
  }

  // kept is the history of the range, or undefined.
  #kept() {
    const { resolution, count } = ranges[this.#range];
    return this.#histories[`${resolution} ${count}`];
  }

  // series is what the chart shows, or undefined.
  #series() {
    const { group } = ranges[this.#range];
    const kept = this.#kept();
    return kept && (group > 1 ? kept.grouped(group) : kept);
  }

  #drawChart(total, now) {
    const series = this.#series();
    const { name, unit } = ranges[this.#range];
    const totals = series?.cumulated(total);
    this.#chart.show(series ?? null, {
      about: `${this.#total ? 'Total' : 'Counted'} of ${this.#name} in the last ${name}, ${unit}`,
      until: this.#service.current() ? 0 : now,
      total: this.#total ? total : null,
      read: (i) => [period(this.#range, series.starts[i], series.starts[i + 1]),
        series.values[i] === null ? 'not known' : `${number(series.values[i])} counted`, ...(totals[i] === null ? [] : [`total ${number(totals[i])}`])],
    });
    setText(byId('tag-sum'), series ? `${number(this.#kept().sum())} in the last ${name}, ${unit}` : '');
    this.#table();
  }

  // table fills the table of changes, the latest first, when it is open.
  #table() {
    const series = this.#series();
    if (!series || !byId('tag-table').open) return;
    const rows = [];
    for (let i = series.length - 1; i >= 0; i--) {
      if (series.values[i] === 0) continue;
      const head = node('th', '', period(this.#range, series.starts[i], series.starts[i + 1]));
      head.scope = 'row';
      rows.push(node('tr', '', head, node('td', '', series.values[i] === null ? 'not known' : number(series.values[i]))));
    }
    const body = byId('tag-rows');
    if (body.textContent !== rows.map((row) => row.textContent).join('')) body.replaceChildren(...rows);
  }

  #writeSnippet() {
    byId('tag-snippet').textContent = snippets[this.#snippet](this.#name, { query: new URL('.', location.href).href, ingest: this.#service.ingest });
  }

  // export saves the history that the chart shows as CSV.
  #export() {
    const series = this.#series();
    if (!series) return;
    const lines = series.values.map((value, i) => `${new Date(series.starts[i]).toISOString()},${value ?? ''}`);
    const link = node('a');
    link.href = URL.createObjectURL(new Blob([`from,counted\n${lines.join('\n')}\n`], { type: 'text/csv' }));
    link.download = `${this.#name}-${this.#range}.csv`;
    link.click();
    URL.revokeObjectURL(link.href);
  }
}
