// One contributor, opened: contributions, the way to the next tier, and recognitions.
import { byId, copies, node, read, setText } from './dom.js';
import { ago, full, number } from './format.js';
import { Sheet } from './sheet.js';

const every = 5_000;

export class PersonView {
  #service; // {live(), now()}
  #sheet;
  #id = null;
  #found = null;
  #failure = '';
  #due = 0;

  // closed is called when the reader has closed the sheet.
  constructor(service, closed) {
    this.#service = service;
    this.#sheet = new Sheet(byId('person'), () => {
      this.#id = null;
      closed();
    });
    copies(byId('person-link'), () => location.href);
  }

  get id() {
    return this.#id;
  }

  open(id) {
    if (id !== this.#id) {
      this.#id = id;
      this.#found = null;
      this.#failure = '';
      this.#due = 0;
      setText(byId('person-name'), id);
    }
    this.#sheet.open();
    this.tick();
  }

  close() {
    this.#sheet.close();
  }

  // tick reads the contributor if that is due.
  async tick() {
    if (this.#id === null) return;
    const now = performance.now();
    if (document.hidden || !this.#service.live() || now < this.#due) {
      this.#draw();
      return;
    }
    this.#due = now + every;
    const id = this.#id;
    try {
      const found = await read(`contributors/${encodeURIComponent(id)}`);
      if (id !== this.#id) return;
      this.#found = found;
      this.#failure = '';
    } catch (error) {
      if (id !== this.#id) return;
      this.#failure = error.status === 404 ? 'There is no contributor with this id.' : 'The contributor cannot be read at the moment. Trying again.';
    }
    this.#draw();
  }

  #draw() {
    const found = this.#found;
    let failure = this.#failure;
    if (!found && !this.#service.live()) failure = 'The contributor cannot be read: there is no connection. Trying again.';
    setText(byId('person-nothing'), failure);
    byId('person-nothing').hidden = !failure;
    setText(byId('person-count'), found ? number(found.contributions) : '–');
    setText(byId('person-tier'), found ? (found.recognized_tier > 0 ? number(found.recognized_tier) : 'none yet') : '–');
    const at = found && Date.parse(found.updated_at);
    setText(byId('person-updated'), found ? ago(this.#service.now() - at) : '–');
    byId('person-updated').title = found ? full(at) : '';
    this.#drawProgress(found);
    const list = byId('person-recognitions');
    const all = found ? [...found.recognitions].reverse() : [];
    const known = JSON.stringify(all);
    if (list.dataset.of !== known) {
      list.dataset.of = known;
      list.replaceChildren(...all.map((r) => {
        const time = node('time', 'when', full(Date.parse(r.recognized_at)));
        time.dateTime = r.recognized_at;
        return node('li', '', node('span', 'tier', `${number(r.tier)}`), node('span', 'with', `reached with ${number(r.contributions)} contributions`), time);
      }));
    }
    byId('person-none').hidden = !found || all.length > 0;
  }

  // drawProgress shows the way to the next tier, if there is one.
  #drawProgress(found) {
    const box = byId('person-progress');
    const next = found?.next_tier ?? 0;
    box.hidden = !(next > 0);
    if (box.hidden) return;
    const bar = byId('person-bar');
    bar.max = next;
    bar.value = Math.min(next, found.contributions);
    const left = next - found.contributions;
    setText(byId('person-next'), left > 0 ? `${number(left)} more to be recognized for ${number(next)} contributions`
      : `Recognition for ${number(next)} contributions is on its way`);
  }
}
