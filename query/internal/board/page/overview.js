// The first screen: three numbers, and the chart of everything.
import { Chart } from './chart.js';
import { byId, read, setText } from './dom.js';
import { change, number, rate } from './format.js';
import { choices, period, ranges } from './ranges.js';
import { midnight, minute, query, Series, zone } from './series.js';

// every is the time between two reads of the last minutes, seldom that between two of hours and days.
const every = 5_000;
const seldom = 60_000;

// soon is the time after the first read at which there is another one.
const soon = 2_000;

// lately is how recent a change makes a tag active.
const lately = 5 * minute;

// observed is the time over which the rate of increments is averaged.
const observed = 15_000;

const minutesKept = 1440;

export class Overview {
  #service; // {totals, rateOf, asOf(), now(), live(), current(), known(), unknown(asOf)}
  #chart;
  #range;
  #check;
  #minutes = null; // what was counted in the last day, by the minute
  #samples = []; // {asOf, increments}: how many increments there had been, the oldest first
  #longer = { hour: null, day: null };
  #read = { minute: -Infinity, hour: -Infinity, day: -Infinity };
  #today = 0; // midnight of the day that the days were read on
  #failure = '';

  constructor(service, range, choose) {
    this.#service = service;
    this.#range = ranges[range] ? range : '30m';
    this.#chart = new Chart(byId('all-chart'));
    this.#check = choices(byId('all-ranges'), 'all-range', Object.keys(ranges), this.#range, (key) => {
      this.#range = key;
      choose(key === '30m' ? '' : key);
      this.tick();
    });
  }

  // show shows a range that the address names.
  show(range) {
    this.#range = ranges[range] ? range : '30m';
    this.#check(this.#range);
    this.#draw();
  }

  // snapshot is called when all totals were received: which tags are active is asked anew.
  snapshot() {
    this.#readActive();
  }

  // tick reads what is due, and brings the page up to date.
  tick() {
    const { live, now } = this.#service;
    if (!document.hidden && live()) {
      this.#due('minute', every, () => this.#readMinutes());
      this.#due('day', midnight(now()) === this.#today ? seldom : 0, () => this.#readLonger('day', 31));
      if (ranges[this.#range].resolution === 'hour') this.#due('hour', seldom, () => this.#readLonger('hour', 168));
    }
    this.#draw();
  }

  async #due(what, interval, call) {
    const now = performance.now();
    if (now - this.#read[what] < Math.max(interval, 1000)) return;
    this.#read[what] = now;
    try {
      await call();
      this.#failure = '';
    } catch {
      this.#failure = 'The history cannot be read at the moment. Trying again.';
      this.#read[what] = now - interval + Math.min(interval, every);
    }
    this.#draw();
  }

  // readMinutes reads the minutes that may have changed since the last answer.
  async #readMinutes() {
    const since = this.#minutes ? Math.ceil((this.#service.now() - this.#minutes.completeTo) / minute) + 1 : minutesKept;
    const body = await read(`history?${query('minute', Math.max(2, Math.min(since, minutesKept)), this.#service.now())}`);
    const series = Series.parse(body);
    this.#minutes = this.#minutes?.merge(series, minutesKept) ?? series;
    if (typeof body.increments !== 'number') return; // an instance of another release, during an update
    this.#samples.push({ asOf: series.asOf, increments: body.increments });
    while (this.#samples[0].asOf < series.asOf - observed) this.#samples.shift();
    if (this.#samples.length === 1) this.#read.minute -= every - soon; // a rate needs two
  }

  async #readLonger(resolution, count) {
    const today = midnight(this.#service.now());
    this.#longer[resolution] = Series.parse(await read(`history?${query(resolution, count, this.#service.now())}`));
    if (resolution === 'day') this.#today = today;
  }

  async #readActive() {
    try {
      let token = '';
      for (let pages = 0; pages < 20; pages++) {
        const body = await read(`tags?order_by=-updated_at&page_size=1000${token && `&page_token=${encodeURIComponent(token)}`}`);
        const since = Date.parse(body.as_of) - lately;
        for (const tag of body.tags) this.#service.totals.touched(tag.name, Date.parse(tag.updated_at));
        token = body.next_page_token ?? '';
        if (!token || Date.parse(body.tags.at(-1).updated_at) < since) break;
      }
      this.#draw();
    } catch {
      // The tags that change from now on are known.
    }
  }

  // perSecond is the number of increments per second, or null while it is not known.
  #perSecond() {
    const last = this.#samples.at(-1);
    if (!last || this.#service.unknown(last.asOf)) return null;
    const first = this.#samples[0];
    return last.asOf > first.asOf ? (last.increments - first.increments) / ((last.asOf - first.asOf) / 1000) : null;
  }

  // sum is what was counted in all, by the stream or the history, whichever is later.
  get sum() {
    return Math.max(this.#service.totals.sum, this.#minutes?.total ?? 0, this.#longer.day?.total ?? 0);
  }

  #draw() {
    const { totals, rateOf, asOf, now, known } = this.#service;
    const there = known();
    const sum = this.sum;
    if (there) {
      for (const series of [this.#minutes, this.#longer.hour, this.#longer.day]) series?.advance(sum, asOf());
      byId('now').style.setProperty('--digits', number(sum).length);
    }
    setText(byId('sum'), there ? number(sum) : '–');
    this.#drawToday();
    const perSecond = this.#perSecond();
    const values = rateOf();
    setText(byId('rate'), rate(perSecond));
    setText(byId('rate-values'), values === null ? '' : `${rate(values)} a second added to the totals`);
    setText(byId('count'), there ? number(totals.size) : '–');
    setText(byId('active'), there ? number(totals.active(asOf() - lately)) : '–');
    this.#drawChart(now());
  }

  #drawToday() {
    const days = this.#longer.day;
    if (!days || !this.#minutes || days.length < 2) {
      setText(byId('today'), '');
      setText(byId('today-change'), '');
      return;
    }
    // Yesterday until this time: all of yesterday, without what the last 24 hours have of it.
    const today = days.values.at(-1);
    const yesterday = days.values.at(-2) + today - this.#minutes.sum();
    setText(byId('today'), `${number(today)} today${yesterday > 0 ? ' ·' : ''}`);
    const percent = change(today, yesterday);
    setText(byId('today-change'), yesterday > 0 ? `${percent} on yesterday by this time` : '');
    byId('today-change').title = `Yesterday until this time: ${number(Math.max(0, yesterday))}`;
  }

  #drawChart(now) {
    const { resolution, count, group, name, unit } = ranges[this.#range];
    const kept = resolution === 'minute' ? this.#minutes : this.#longer[resolution];
    const series = kept && (group > 1 ? kept.grouped(group) : kept.last(count));
    this.#chart.show(series, {
      about: `Counted in the last ${name}, ${unit}`,
      until: this.#service.current() ? 0 : now,
      read: (i) => [period(this.#range, series.starts[i], series.starts[i + 1]), series.values[i] === null ? 'not known' : `${number(series.values[i])} counted`],
    });
    setText(byId('all-sum'), series ? `${number(kept.last(count).sum())} in the last ${name}, ${unit}` : this.#failure || 'Loading…');
    setText(byId('all-zone'), `Times in ${zone}`);
  }
}
