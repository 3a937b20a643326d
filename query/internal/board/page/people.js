// Contributors and recognitions. They are not part of the stream, and are read every few seconds.
import { personPlace } from './address.js';
import { byId, node, read, setText } from './dom.js';
import { ago, full, number } from './format.js';

// every is the time between two reads of the first page. While more pages are shown, the list holds still.
const every = 10_000;
const first = 8;
const page = 50;

// person is a link to a contributor, whose id is text from outside, in whatever script.
function person(id) {
  const link = node('a', 'who', node('bdi', '', id));
  link.href = personPlace(id);
  link.title = id;
  return link;
}

// Pages is a list that is read in pages.
class Pages {
  #e;
  #path; // () => with its parameters, without those of pages
  #of = ''; // the path of the first page, which is that of all pages after it
  #items; // (body) => elements
  #empty; // () => the text of an empty list
  #asked = -Infinity;
  #asking = 0; // numbers the requests: an answer to an older one is late
  #token = '';
  #more = false; // more than the first page is shown
  #known = ''; // what is shown of the first page; null for what is not

  constructor(id, { path, items, empty, came = () => {} }) {
    this.#e = { list: byId(id), nothing: byId(`${id}-nothing`), more: byId(`${id}-more`), fewer: byId(`${id}-fewer`) };
    this.#path = path;
    this.#items = items;
    this.#empty = empty;
    this.came = came;
    this.#e.more.addEventListener('click', () => this.#read(this.#token));
    this.#e.fewer.addEventListener('click', () => this.restart());
  }

  // restart reads the first page.
  restart() {
    this.#more = false;
    this.#known = null;
    this.#asked = -Infinity;
    this.tick();
  }

  tick() {
    if (this.#more || performance.now() - this.#asked < every) return;
    this.#read('');
  }

  async #read(token) {
    const asking = ++this.#asking;
    this.#asked = performance.now();
    const size = token ? page : first;
    if (!token) this.#of = this.#path();
    const { list, nothing, more, fewer } = this.#e;
    try {
      const body = await read(`${this.#of}page_size=${size}${token && `&page_token=${encodeURIComponent(token)}`}`);
      if (asking !== this.#asking) return;
      const made = this.#items(body);
      if (token) {
        this.#more = true;
        list.append(...made);
      } else {
        this.came(body);
        const known = made.map((item) => item.outerHTML).join('');
        if (known !== this.#known) list.replaceChildren(...made); // what has the focus stays as long as nothing changes
        this.#known = known;
      }
      this.#token = body.next_page_token ?? '';
      setText(nothing, this.#empty());
      nothing.hidden = list.children.length > 0;
    } catch {
      if (asking !== this.#asking) return;
      setText(nothing, list.children.length > 0 ? 'These could not be refreshed.' : 'These cannot be read at the moment.');
      nothing.hidden = false;
    }
    more.hidden = !this.#token;
    fewer.hidden = !this.#more;
  }
}

export class People {
  #service; // {live(), now()}
  #contributors;
  #latest;

  // contributors is whether there are any, or null while that is unknown.
  contributors = null;

  // changed() is called when contributors has changed.
  constructor(service, changed) {
    this.#service = service;
    const text = byId('contributors-text');
    const tier = byId('latest-tier');
    const since = byId('latest-since');
    const tiers = new Set();
    let most = 1;
    this.#contributors = new Pages('contributors', {
      // Those that are searched for come by id: the service has no other order of them.
      path: () => (text.value ? `contributors?prefix=${encodeURIComponent(text.value)}&` : 'contributors?order_by=-contributions&'),
      items: (body) => {
        most = Math.max(most, ...body.contributors.map((c) => c.contributions));
        return body.contributors.map((c) => this.#contributor(c, most));
      },
      empty: () => (text.value ? `No contributor's id begins with ${text.value}.` : 'There are no contributors yet. An increment may name one.'),
      came: (body) => {
        if (text.value) return;
        const any = body.contributors.length > 0;
        if (any === this.contributors) return;
        this.contributors = any;
        changed();
      },
    });
    this.#latest = new Pages('latest', {
      path: () => `recognitions?${tier.value && `tier=${tier.value}&`}${since.value && `since=${new Date(service.now() - since.value * 3_600_000).toISOString()}&`}`,
      items: (body) => {
        for (const r of body.recognitions) tiers.add(r.tier);
        this.#offer(tier, tiers);
        return body.recognitions.map((r) => this.#recognition(r));
      },
      empty: () => (tier.value || since.value ? 'There are no such recognitions.' : 'There are no recognitions yet.'),
    });
    tier.addEventListener('change', () => this.#latest.restart());
    since.addEventListener('change', () => this.#latest.restart());
    let typing = 0;
    text.addEventListener('input', () => {
      clearTimeout(typing);
      typing = setTimeout(() => this.#contributors.restart(), 200);
    });
  }

  // tick reads what is due.
  tick() {
    if (document.hidden || !this.#service.live()) return;
    this.#contributors.tick();
    this.#latest.tick();
    const now = this.#service.now();
    for (const time of document.querySelectorAll('#latest time')) setText(time, ago(now - Date.parse(time.dateTime)));
  }

  // offer makes a choice of the tiers that were seen.
  #offer(select, tiers) {
    if (select.options.length === tiers.size + 1) return;
    const chosen = select.value;
    select.replaceChildren(select.options[0], ...[...tiers].sort((a, b) => a - b).map((tier) => Object.assign(node('option', '', number(tier)), { value: tier })));
    select.value = chosen;
  }

  #contributor(c, most) {
    const share = node('span', 'share');
    share.style.width = `${(100 * c.contributions) / most}%`;
    const item = node('li', '', share, person(c.id), node('span', 'count', number(c.contributions)));
    if (c.recognized_tier > 0) item.title = `Recognized for ${number(c.recognized_tier)} contributions`;
    return item;
  }

  #recognition(r) {
    const time = node('time', 'when');
    time.dateTime = r.recognized_at;
    time.title = full(Date.parse(r.recognized_at));
    const tier = node('span', 'tier', number(r.tier));
    tier.title = `Recognized for ${number(r.tier)} contributions`;
    const item = node('li', '', person(r.contributor), tier, time);
    setText(time, ago(this.#service.now() - Date.parse(r.recognized_at)));
    return item;
  }
}
