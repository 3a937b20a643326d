// The histories of the tags that are visible.

const minute = 60_000;

// behind is the time after the end of a minute at which its change is requested: the service keeps it open for 15 s.
const behind = 17_000;

// failed is the wait after a failed read.
const failed = 15_000;

// path returns the path of a tag's history: the changes of its total in count periods, minutes or hours, up to the present
// one. The last period ends a whole group of periods.
export function path(name, resolution, count, now, group = 1) {
  const period = (resolution === 'hour' ? 60 * minute : minute) * group;
  const to = (Math.floor(now / period) + 1) * period;
  const query = new URLSearchParams({
    resolution,
    from: new Date(to - (count / group) * period).toISOString(),
    to: new Date(to).toISOString(),
  });
  return `tags/${encodeURIComponent(name)}/history?${query}`;
}

// parse converts the body of an answer to {from, period, changes, closed}: times in milliseconds, and closed is the number
// of changes that are final. With a group, each change is the sum of that many periods.
export function parse(body, group = 1) {
  const period = (body.resolution === 'hour' ? 60 * minute : minute) * group;
  const from = Date.parse(body.from);
  const changes = [];
  for (let i = 0; i < body.changes.length; i++) {
    if (i % group === 0) changes.push(0);
    changes[changes.length - 1] += body.changes[i];
  }
  const closed = Math.floor((Date.parse(body.complete_to) - from) / period);
  return { from, period, changes, closed: Math.max(0, Math.min(closed, changes.length)) };
}

// Histories keeps the last minutes of the tags that are wanted. It asks for few at once, only for those that are wanted at
// that time, and for each at most once a minute.
export class Histories {
  #load; // (name) => a promise of a history
  #loaded; // called with the name of a tag whose history has come
  #now;
  #atOnce;
  #keep;
  #entries = new Map(); // name → {history, next}, the oldest first
  #loading = new Set();
  #wanted = [];

  constructor({ load, loaded, now = Date.now, atOnce = 4, keep = 500 }) {
    this.#load = load;
    this.#loaded = loaded;
    this.#now = now;
    this.#atOnce = atOnce;
    this.#keep = keep;
  }

  // get returns a tag's history, or undefined while there is none.
  get(name) {
    return this.#entries.get(name)?.history;
  }

  // want sets the names whose histories are needed, in order of priority. Callers repeat it, so that histories stay current.
  want(names) {
    this.#wanted = names;
    this.#fill();
  }

  #fill() {
    const now = this.#now();
    for (const name of this.#wanted) {
      if (this.#loading.size >= this.#atOnce) return;
      if (this.#loading.has(name) || this.#entries.get(name)?.next > now) continue;
      this.#fetch(name);
    }
  }

  async #fetch(name) {
    this.#loading.add(name);
    const entry = { history: this.get(name), next: 0 };
    try {
      entry.history = await this.#load(name);
      entry.next = Math.floor((this.#now() - behind) / minute + 1) * minute + behind;
    } catch {
      entry.next = this.#now() + failed; // what was there stays
    }
    this.#entries.delete(name);
    this.#entries.set(name, entry);
    if (this.#entries.size > this.#keep) this.#entries.delete(this.#entries.keys().next().value);
    this.#loading.delete(name);
    this.#loaded(name);
    this.#fill();
  }
}
