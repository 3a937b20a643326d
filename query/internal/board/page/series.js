// Histories: how much totals changed, period by period.

export const minute = 60_000;
export const hour = 60 * minute;

// zone is the reader's time zone, in which days begin.
export const zone = new Intl.DateTimeFormat().resolvedOptions().timeZone ?? 'UTC';

// midnight is when the day of a time began, in the reader's time zone; days moves it by as many days.
export function midnight(time, days = 0) {
  const at = new Date(time);
  return new Date(at.getFullYear(), at.getMonth(), at.getDate() + days).getTime();
}

// query returns the parameters that ask for count minutes, hours or days, the present one last.
export function query(resolution, count, now) {
  const parameters = new URLSearchParams({ resolution });
  if (resolution === 'day') {
    parameters.set('from', new Date(midnight(now, 1 - count)).toISOString());
    parameters.set('to', new Date(midnight(now, 1)).toISOString());
    parameters.set('time_zone', zone);
    return parameters;
  }
  const period = resolution === 'hour' ? hour : minute;
  const to = (Math.floor(now / period) + 1) * period;
  parameters.set('from', new Date(to - count * period).toISOString());
  parameters.set('to', new Date(to).toISOString());
  return parameters;
}

// Series is what was counted in each of some periods. values[i] is that of the period from starts[i] to starts[i + 1], or
// null where it is not known; the last period is open, and the first closed ones change no more.
export class Series {
  // parse converts an answer of the service, or changes of one of its tags.
  static parse(body, changes = body.changes) {
    const from = Date.parse(body.from);
    const period = body.resolution === 'hour' ? hour : minute;
    const starts = body.starts ? body.starts.map((start) => Date.parse(start)) : changes.map((_, i) => from + i * period);
    return new Series([...starts, Date.parse(body.to)], [...changes], {
      completeTo: Date.parse(body.complete_to), asOf: Date.parse(body.as_of), total: body.total ?? null,
    });
  }

  constructor(starts, values, { completeTo, asOf, total = null }) {
    this.starts = starts;
    this.values = values;
    this.completeTo = completeTo;
    this.asOf = asOf;
    this.total = total; // at asOf, or null
  }

  get length() {
    return this.values.length;
  }

  // closed is the number of periods that change no more.
  get closed() {
    let n = 0;
    while (n < this.length && this.starts[n + 1] <= this.completeTo) n++;
    return n;
  }

  // sum is what was counted from a time on.
  sum(from = -Infinity) {
    let sum = 0;
    for (let i = 0; i < this.length; i++) if (this.starts[i] >= from) sum += this.values[i] ?? 0;
    return sum;
  }

  // last returns the last periods: a series of its own.
  last(count) {
    const first = Math.max(0, this.length - count);
    return new Series(this.starts.slice(first), this.values.slice(first), this);
  }

  // grouped returns a series of which each period is a number of these, beginning at a multiple of that many. It begins with the
  // first that is whole: a part of one would look like a dip.
  grouped(group) {
    const length = group * (this.starts[1] - this.starts[0]);
    const starts = [];
    const values = [];
    const first = Math.max(0, this.starts.findIndex((start) => start % length === 0));
    for (let i = first; i < this.length; i++) {
      const start = Math.floor(this.starts[i] / length) * length;
      if (starts.at(-1) !== start) {
        starts.push(start);
        values.push(null);
      }
      if (this.values[i] !== null) values[values.length - 1] += this.values[i];
    }
    return new Series([...starts, starts.at(-1) + length], values, this);
  }

  // advance adds what the total has grown since, as far as a time, so that the series and the total agree. What was counted
  // in a period that the series does not have yet is in a new one.
  advance(total, asOf) {
    if (asOf > this.asOf) {
      const period = this.starts.at(-1) - this.starts.at(-2);
      while (asOf >= this.starts.at(-1)) { // of a day the next answer knows the length
        this.values.push(0);
        this.starts.push(this.starts.at(-1) + period);
      }
      this.asOf = asOf;
    }
    if (this.total === null) this.total = total;
    if (total > this.total) {
      this.values[this.length - 1] += total - this.total;
      this.total = total;
    }
  }

  // merge puts the periods of a later answer in the place of these, and keeps count of them.
  merge(later, count) {
    const from = later.starts[0];
    const keep = this.starts.findIndex((start) => start >= from);
    const starts = (keep < 0 ? this.starts.slice(0, -1) : this.starts.slice(0, keep)).concat(later.starts);
    const values = (keep < 0 ? this.values : this.values.slice(0, keep)).concat(later.values);
    return new Series(starts, values, later).last(count);
  }

  // cumulated returns the total at the end of each period, if there was a total at the end of the last.
  cumulated(total) {
    const totals = new Array(this.length);
    let at = total;
    for (let i = this.length - 1; i >= 0; i--) {
      totals[i] = this.values[i] === null ? null : Math.max(0, at);
      at -= this.values[i] ?? 0;
    }
    return totals;
  }
}

// days returns what was counted in the last 24 hours and in the 24 before, of a series of hours. An hour that both have part in is
// divided by time.
export function days(series) {
  const { values, starts, asOf } = series;
  const last = values.length - 1;
  const part = Math.min(1, (asOf - starts[last]) / hour);
  const sum = (from, end) => values.slice(Math.max(0, from), Math.max(0, end)).reduce((a, b) => a + (b ?? 0), 0);
  const at = (i) => values[i] ?? 0;
  return {
    now: sum(last - 23, last + 1) + (1 - part) * at(last - 24),
    before: part * at(last - 24) + sum(last - 47, last - 24) + (1 - part) * at(last - 48),
  };
}

// behind is the time after the end of a minute at which its change is requested: the service keeps it open for 15 s.
const behind = 17_000;

// failed is the wait after a failed read.
const failed = 15_000;

// Histories keeps something about each of the tags that are wanted, which it reads for many of them at once, and again every
// so many minutes.
export class Histories {
  #load; // (names) => a promise of a Map from names
  #loaded; // called when some have come
  #now;
  #minutes;
  #atOnce;
  #keep;
  #entries = new Map(); // name → {value, next}, the oldest first
  #loading = false;
  #wanted = [];

  constructor({ load, loaded, now = Date.now, minutes = 1, atOnce = 100, keep = 500 }) {
    this.#load = load;
    this.#loaded = loaded;
    this.#now = now;
    this.#minutes = minutes;
    this.#atOnce = atOnce;
    this.#keep = keep;
  }

  // get returns what is known of a tag, or undefined.
  get(name) {
    return this.#entries.get(name)?.value;
  }

  // want sets the names that are needed, in order of priority. Callers repeat it, so that what is kept stays current.
  want(names) {
    this.#wanted = names;
    this.#fill();
  }

  async #fill() {
    if (this.#loading) return;
    const begun = this.#now();
    const due = this.#wanted.filter((name) => !(this.#entries.get(name)?.next > begun)).slice(0, this.#atOnce);
    if (due.length === 0) return;
    this.#loading = true;
    let found = new Map();
    let next = begun + failed;
    try {
      found = await this.#load(due);
      const every = this.#minutes * minute;
      next = Math.floor((this.#now() - behind) / every + 1) * every + behind;
    } catch {
      // What was there stays.
    }
    for (const name of due) {
      const value = found.get(name) ?? this.get(name);
      this.#entries.delete(name);
      this.#entries.set(name, { value, next });
    }
    while (this.#entries.size > this.#keep) this.#entries.delete(this.#entries.keys().next().value);
    this.#loading = false;
    this.#loaded();
    this.#fill();
  }
}
