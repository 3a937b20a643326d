// Contributors and the latest recognitions. They are not part of the stream, and are read every few seconds.
import { ago, number } from './format.js';

const every = 10_000;
const shown = 8;

function node(tag, className, ...children) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  e.append(...children);
  return e;
}

// name is a contributor's id: text from outside, in whatever script.
function name(id) {
  const e = node('bdi', 'who', id);
  e.title = id;
  return e;
}

export class People {
  #live; // reports whether the service answers
  #lists;
  #asked = -Infinity;
  #changed;

  // contributors is whether there are any, or null while that is unknown.
  contributors = null;

  // live() reports whether the service answers; changed() is called when contributors has changed.
  constructor(live, changed) {
    this.#live = live;
    this.#changed = changed;
    const byId = (id) => document.getElementById(id);
    this.#lists = {
      contributors: { list: byId('contributors'), nothing: byId('contributors-nothing') },
      latest: { list: byId('latest'), nothing: byId('latest-nothing') },
    };
  }

  start() {
    setInterval(() => this.tick(), 1000);
    document.addEventListener('visibilitychange', () => this.tick());
  }

  // tick reads what is due.
  tick() {
    if (document.hidden || !this.#live()) return;
    if (performance.now() - this.#asked < every) return;
    this.#asked = performance.now();
    this.#read(`contributors?order_by=-contributions&page_size=${shown}`, this.#lists.contributors, (body) => {
      const any = body.contributors.length > 0;
      if (any !== this.contributors) {
        this.contributors = any;
        this.#changed();
      }
      return body.contributors.map((c) => this.#contributor(c, body.contributors[0].contributions));
    }, 'There are no contributors yet. An increment may name one.');
    this.#read(`recognitions?page_size=${shown}`, this.#lists.latest, (body) => {
      const now = Date.parse(body.as_of) + body.lag_ms;
      return body.recognitions.map((r) => this.#recognition(r, now));
    }, 'There are no recognitions yet.');
  }

  async #read(path, { list, nothing }, items, empty) {
    try {
      const response = await fetch(path, { signal: AbortSignal.timeout(8000) });
      if (!response.ok) throw new Error(response.statusText);
      const made = items(await response.json());
      list.replaceChildren(...made);
      nothing.textContent = empty;
      nothing.hidden = made.length > 0;
    } catch {
      nothing.textContent = list.children.length > 0 ? 'These could not be refreshed.' : 'These cannot be read at the moment.';
      nothing.hidden = false;
    }
  }

  #contributor(c, most) {
    const share = node('span', 'share');
    share.style.width = `${(100 * c.contributions) / most}%`;
    const item = node('li', '', share, name(c.id), node('span', 'count', number(c.contributions)));
    if (c.recognized_tier > 0) item.title = `Recognized at ${number(c.recognized_tier)} contributions`;
    return item;
  }

  #recognition(r, now) {
    const time = node('time', 'when', ago(now - Date.parse(r.recognized_at)));
    time.dateTime = r.recognized_at;
    return node('li', '', name(r.contributor), node('span', 'tier', `for ${number(r.tier)} contributions`), time);
  }
}
