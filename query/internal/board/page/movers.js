// The tags by how much more was counted of them in the last 24 whole hours than in the 24 before: what grew and what fell most, as
// the service orders them. The others are between, by name.
import { read } from './dom.js';

// every is the time between two reads. The order changes once an hour.
const every = 60_000;
const most = 1000;

export class Movers {
  #loaded;
  #changes = new Map(); // name → its change
  #asked = -Infinity;

  // version numbers what is known.
  version = 0;

  // loaded() is called when there is a new order.
  constructor(loaded) {
    this.#loaded = loaded;
  }

  // tick reads what is due.
  async tick() {
    if (document.hidden || performance.now() - this.#asked < every) return;
    this.#asked = performance.now();
    try {
      const pages = await Promise.all(['-change', 'change'].map((order) => read(`tags?order_by=${order}&page_size=${most}`)));
      this.#changes = new Map(pages.flatMap((page) => page.tags.map((tag) => [tag.name, tag.change])));
      this.version++;
      this.#loaded();
    } catch {
      this.#asked += 5_000 - every; // again soon
    }
  }

  // list sorts tags, which are sorted by name.
  list(tags, falling) {
    const of = (tag) => this.#changes.get(tag.name) ?? 0;
    return tags.toSorted((a, b) => (falling ? of(b) - of(a) : of(a) - of(b)));
  }
}
