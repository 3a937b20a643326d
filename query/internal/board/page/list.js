// A long list of which only what can be seen is in the page. It scrolls with the window.

// beyond is how many rows are drawn above and below what can be seen.
const beyond = 8;

// head is what the heads that stay at the window's top take of it, in pixels.
const head = 100;

// List shows items, each with a name of its own, as rows of equal height. make() makes an empty row, fill(row, item)
// writes an item into one, and open(item) is called for an item that was chosen.
export class List {
  #body;
  #on;
  #items = [];
  #places = new Map(); // name → its place in items
  #rows = new Map(); // name → its row
  #spare = [];
  #height = 0;
  #active = null; // the name of the one row that the Tab key reaches
  #drawing = 0;

  constructor(body, on) {
    this.#body = body;
    this.#on = on;
    const draw = () => this.draw();
    addEventListener('scroll', draw, { passive: true });
    addEventListener('resize', draw, { passive: true });
    body.addEventListener('keydown', (event) => this.#key(event));
    body.addEventListener('focusin', (event) => this.#focused(event.target.closest('.row')));
    body.addEventListener('click', (event) => {
      const row = event.target.closest('.row');
      if (!row || event.defaultPrevented || event.metaKey || event.ctrlKey || event.shiftKey || event.button !== 0) return;
      event.preventDefault();
      this.#on.open(row.dataset.name);
    });
  }

  // set replaces the items.
  set(items) {
    this.#items = items;
    this.#places = new Map(items.map((item, place) => [item.name, place]));
    this.draw();
  }

  // visible returns the names of the items that are drawn, from the top.
  visible() {
    return [...this.#rows.keys()].sort((a, b) => this.#places.get(a) - this.#places.get(b));
  }

  // draw brings the page up to date, with the next frame.
  draw() {
    this.#drawing ||= requestAnimationFrame(() => {
      this.#drawing = 0;
      this.#draw();
    });
  }

  #draw() {
    this.#height = parseFloat(getComputedStyle(this.#body).getPropertyValue('--row'));
    const items = this.#items;
    this.#body.style.height = `${items.length * this.#height}px`;
    const top = this.#body.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(-top / this.#height) - beyond);
    const end = Math.min(items.length, Math.ceil((innerHeight - top) / this.#height) + beyond);

    if (!this.#places.has(this.#active) || this.#left()) {
      const place = Math.max(0, Math.ceil((head - top) / this.#height));
      this.#active = items[Math.min(place, items.length - 1)]?.name ?? null;
    }
    const wanted = new Map();
    for (let place = first; place < end; place++) wanted.set(items[place].name, place);
    if (this.#active !== null) wanted.set(this.#active, this.#places.get(this.#active)); // Tab must find it

    for (const [name, row] of this.#rows) {
      if (wanted.has(name)) continue;
      row.remove();
      this.#rows.delete(name);
      this.#spare.push(row);
    }
    for (const [name, place] of wanted) {
      let row = this.#rows.get(name);
      if (!row) {
        row = this.#spare.pop() ?? this.#on.make();
        row.dataset.name = name;
        this.#rows.set(name, row);
        this.#body.append(row);
      }
      const y = `translateY(${place * this.#height}px)`;
      if (row.style.transform !== y) {
        row.style.transform = y;
        row.setAttribute('aria-rowindex', place + 2); // the first is the head's
      }
      const link = row.querySelector('a');
      const reached = name === this.#active ? 0 : -1;
      if (link.tabIndex !== reached) link.tabIndex = reached;
      this.#on.fill(row, items[place]);
    }
    this.#spare.length = Math.min(this.#spare.length, 2 * beyond);
    this.#on.drawn?.();
  }

  // left says whether the reader is elsewhere: then the Tab key comes to the first row that can be seen.
  #left() {
    return !this.#body.contains(document.activeElement) && !document.querySelector('dialog[open]');
  }

  #focused(row) {
    if (!row || row.dataset.name === this.#active) return;
    this.#active = row.dataset.name;
    this.draw();
  }

  #key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(innerHeight / this.#height) - 4);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || this.#active === null) return;
    event.preventDefault();
    const place = Math.max(0, Math.min(this.#items.length - 1, this.#places.get(this.#active) + step));
    this.#active = this.#items[place].name;
    this.#draw(); // now: what is focused must be there
    const row = this.#rows.get(this.#active);
    row.scrollIntoView({ block: 'nearest' });
    row.querySelector('a').focus({ preventScroll: true });
  }
}
