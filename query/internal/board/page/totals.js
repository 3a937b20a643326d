// The totals received from the stream, and their rates. It has no clock, network or page: time passes only as far as the
// service says, so that silence is never taken for zero.

// span is the time over which a rate is averaged, in milliseconds: long enough not to flicker with the aggregator's
// windows, short enough to be current.
export const span = 10_000;

// steady is the time over which a rate is averaged that tags are sorted by, so that they do not change places all the time.
export const steady = 30_000;

// settling is the time that must have been observed before there is a rate.
const settling = 1_500;

export class Totals {
  #tags = new Map();
  #events = []; // {at, sum, changes: [tag, change, ...]}, the oldest first, none older than steady
  #recent = 0; // the first event within the last span
  #sum = 0; // of the events within the last span
  #since = 0; // the time since which every change is known
  #now = 0; // the time up to which every change is known
  #known = false;

  // sum is the sum of all totals.
  sum = 0;
  // most is the highest total.
  most = 0;

  get size() {
    return this.#tags.size;
  }

  // get returns a tag, {name, total, recent, steady, changed}, or undefined. There is one object for each tag, always the
  // same. recent and steady are its changes within span and steady; changed is when it last changed, 0 if that is not known.
  get(name) {
    return this.#tags.get(name);
  }

  // all returns the totals by name.
  all() {
    return Object.fromEntries([...this.#tags.values()].map((tag) => [tag.name, tag.total]));
  }

  // snapshot replaces all totals by those of a time, in milliseconds by the server's clock. The changes in between are not
  // known second by second, so rates start over.
  snapshot(totals, at) {
    for (const name of this.#tags.keys()) {
      if (!Object.hasOwn(totals, name)) this.#tags.delete(name);
    }
    this.sum = 0;
    this.most = 0;
    for (const name of Object.keys(totals)) {
      this.#set(name, totals[name], this.#known ? at : 0);
      this.sum += totals[name];
    }
    this.#known = true;
    this.#restart(at);
  }

  // changes applies totals that may have changed since the last event. After a gap in the stream they may cover more than
  // a span, and rates start over.
  changes(totals, at, gap = false) {
    const event = { at, sum: 0, changes: [] };
    for (const name of Object.keys(totals)) {
      const [tag, change] = this.#set(name, totals[name], at);
      if (change === 0) continue;
      this.sum += change;
      event.sum += change;
      event.changes.push(tag, change);
    }
    if (gap) {
      this.#restart(at);
      return;
    }
    this.#events.push(event);
    this.#sum += event.sum;
    for (let i = 0; i < event.changes.length; i += 2) {
      event.changes[i].recent += event.changes[i + 1];
      event.changes[i].steady += event.changes[i + 1];
    }
    this.advance(at);
  }

  // advance sets the time up to which every change is known: events older than a span leave the rates.
  advance(asOf) {
    this.#now = Math.max(this.#now, asOf);
    for (; this.#recent < this.#events.length && this.#events[this.#recent].at <= this.#now - span; this.#recent++) {
      const { sum, changes } = this.#events[this.#recent];
      this.#sum -= sum;
      for (let i = 0; i < changes.length; i += 2) changes[i].recent -= changes[i + 1];
    }
    while (this.#events.length > 0 && this.#events[0].at <= this.#now - steady) {
      const { changes } = this.#events.shift();
      this.#recent--;
      for (let i = 0; i < changes.length; i += 2) changes[i].steady -= changes[i + 1];
    }
  }

  // rate returns the increase per second of one tag or of all, or null while it is unknown.
  rate(tag) {
    const seen = Math.min(span, this.#now - this.#since);
    return seen < settling ? null : (tag ? tag.recent : this.#sum) / (seen / 1000);
  }

  // touched sets when a tag changed last, as far as that is later than what is known.
  touched(name, at) {
    const tag = this.#tags.get(name);
    if (tag) tag.changed = Math.max(tag.changed, at);
  }

  // active returns how many tags have changed since a time.
  active(since) {
    let count = 0;
    for (const tag of this.#tags.values()) if (tag.changed >= since) count++;
    return count;
  }

  // list returns the tags whose names contain a text, in an order: name, total or rate, ascending or falling. Equal tags are
  // in the order of their names.
  list(text, order, falling) {
    const found = [];
    for (const tag of this.#tags.values()) {
      if (tag.name.includes(text)) found.push(tag);
    }
    const sign = falling ? -1 : 1;
    const byName = (a, b) => (a.name < b.name ? -1 : 1);
    const by = {
      name: (a, b) => sign * byName(a, b),
      total: (a, b) => sign * (a.total - b.total) || byName(a, b),
      rate: (a, b) => sign * (a.steady - b.steady) || byName(a, b),
    };
    return found.sort(by[order]);
  }

  #set(name, total, at) {
    let tag = this.#tags.get(name);
    if (!tag) {
      tag = { name, total: 0, recent: 0, steady: 0, changed: 0 };
      this.#tags.set(name, tag);
    }
    const change = total - tag.total;
    tag.total = total;
    this.most = Math.max(this.most, total);
    if (change !== 0) tag.changed = at;
    return [tag, change];
  }

  #restart(at) {
    this.#events = [];
    this.#recent = 0;
    this.#sum = 0;
    for (const tag of this.#tags.values()) {
      tag.recent = 0;
      tag.steady = 0;
    }
    this.#since = at;
    this.#now = at;
  }
}
