// The totals received from the stream, and their rates. It has no clock, network or page.

// span is the time over which a rate is averaged, in milliseconds: long enough not to flicker with the aggregator's
// windows, short enough to be current.
export const span = 10_000;

// settling is the time that must have been observed before there is a rate.
const settling = 1_500;

// patience is how long the next event may take before the rate falls.
const patience = 2_000;

export class Totals {
  #tags = new Map();
  #events = []; // {at, sum, changes: [tag, change, ...]}, the oldest first, none older than a span
  #recent = 0; // the sum of the events
  #since = 0; // the time since which every change is known
  #latest = 0; // the time of the last event
  #now = 0;

  // sum is the sum of all totals.
  sum = 0;

  get size() {
    return this.#tags.size;
  }

  // get returns a tag, {name, total, recent, changed}, or undefined. There is one object for each tag, always the same.
  get(name) {
    return this.#tags.get(name);
  }

  // snapshot replaces all totals by those of a time, in milliseconds by the server's clock. The changes in between are not
  // known second by second, so rates start over.
  snapshot(totals, at) {
    for (const name of this.#tags.keys()) {
      if (!Object.hasOwn(totals, name)) this.#tags.delete(name);
    }
    this.sum = 0;
    for (const name of Object.keys(totals)) {
      this.#set(name, totals[name], at);
      this.sum += totals[name];
    }
    this.#restart(at);
  }

  // changes applies the totals that have changed since the last event. After a gap in the stream they may cover more than
  // a span, and rates start over.
  changes(totals, at, gap = false) {
    const event = { at, sum: 0, changes: [] };
    for (const name of Object.keys(totals)) {
      const [tag, change] = this.#set(name, totals[name], at);
      this.sum += change;
      event.sum += change;
      event.changes.push(tag, change);
    }
    if (gap) {
      this.#restart(at);
      return;
    }
    this.#events.push(event);
    this.#recent += event.sum;
    for (let i = 0; i < event.changes.length; i += 2) event.changes[i].recent += event.changes[i + 1];
    this.#latest = Math.max(this.#latest, at);
    this.advance(at);
  }

  // advance sets the time by the server's clock: events older than a span leave the rates.
  advance(now) {
    this.#now = Math.max(this.#latest, now - patience);
    while (this.#events.length > 0 && this.#events[0].at <= this.#now - span) {
      const { sum, changes } = this.#events.shift();
      this.#recent -= sum;
      for (let i = 0; i < changes.length; i += 2) changes[i].recent -= changes[i + 1];
    }
  }

  // rate returns the increase per second of one tag or of all, or null while it is unknown.
  rate(tag) {
    const seen = Math.min(span, this.#now - this.#since);
    return seen < settling ? null : (tag ? tag.recent : this.#recent) / (seen / 1000);
  }

  // list returns the tags that begin with a prefix, in an order: name, total or rate, ascending or falling. Equal tags are
  // in the order of their names.
  list(prefix, order, falling) {
    const found = [];
    for (const tag of this.#tags.values()) {
      if (tag.name.startsWith(prefix)) found.push(tag);
    }
    const sign = falling ? -1 : 1;
    const byName = (a, b) => (a.name < b.name ? -1 : 1);
    const by = {
      name: (a, b) => sign * byName(a, b),
      total: (a, b) => sign * (a.total - b.total) || byName(a, b),
      rate: (a, b) => sign * (a.recent - b.recent) || byName(a, b),
    };
    return found.sort(by[order]);
  }

  #set(name, total, at) {
    let tag = this.#tags.get(name);
    if (!tag) {
      tag = { name, total: 0, recent: 0, changed: 0 };
      this.#tags.set(name, tag);
    }
    const change = total - tag.total;
    tag.total = total;
    if (change !== 0) tag.changed = at;
    return [tag, change];
  }

  #restart(at) {
    this.#events = [];
    this.#recent = 0;
    for (const tag of this.#tags.values()) tag.recent = 0;
    this.#since = at;
    this.#latest = at;
    this.#now = at;
  }
}
