// The stream of totals, which is kept open, and the age of the totals.

// quiet is the silence, in milliseconds, after which the totals are verified with a request: a stream without changes is
// silent, and so is a dead one.
const quiet = 5_000;

// late is the age from which totals are called old although the stream is open.
const late = 15_000;

// reopening is the wait before a stream that the browser has closed is opened again; it doubles up to the second value.
const reopening = [2_000, 30_000];

// closed is the readyState of a source that the browser does not reopen: EventSource.CLOSED.
const closed = 2;

// toTheService is the stream's environment in a browser.
const toTheService = {
  open: () => new EventSource('stats/stream'),
  // lastChange returns the response of /tags with the tag that changed last.
  lastChange: () => fetch('tags?order_by=-updated_at&page_size=1', { signal: AbortSignal.timeout(8000) }),
  now: () => performance.now(),
  later: (call, ms) => setTimeout(call, ms),
};

// Stream calls on.snapshot(totals, asOf), on.changes(totals, asOf, gap) and on.state(state), where a state is connecting,
// live, late or cut. on.agrees(tag) returns whether the board shows that total of a tag. Times are milliseconds by the
// server's clock.
export class Stream {
  #on;
  #outside;
  #source = null;
  #state = 'connecting';
  #opened = false; // and not cut since
  #gap = false; // something may have been missed
  #fresh = null; // {asOf, age, at}: the age of the totals, as last received
  #doubted = 0; // consecutive answers with another total than the stream
  #wait = reopening[0];
  #asking = false;

  constructor(on, outside = toTheService) {
    this.#on = on;
    this.#outside = outside;
  }

  // start opens the stream. tick must then be called every second.
  start() {
    this.#open();
  }

  // tick verifies a silent stream and updates the state.
  tick() {
    if (this.#opened && (!this.#fresh || this.#outside.now() - this.#fresh.at > quiet)) this.#ask();
    this.#settle();
  }

  get state() {
    return this.#state;
  }

  // asOf is the time that the totals are of, or null before the first.
  get asOf() {
    return this.#fresh && this.#fresh.asOf;
  }

  // age is how old the totals are, in milliseconds, or null before the first.
  get age() {
    return this.#fresh && this.#fresh.age + this.#outside.now() - this.#fresh.at;
  }

  #open() {
    this.#source?.close();
    const source = this.#outside.open();
    this.#source = source;
    source.addEventListener('open', () => {
      this.#opened = true;
      this.#wait = reopening[0];
      this.#ask(); // a stream that resumes without changes is silent
    });
    source.addEventListener('snapshot', (event) => {
      const { totals, as_of: asOf, lag_ms: lag } = JSON.parse(event.data);
      this.#heard(asOf, lag);
      this.#on.snapshot(totals, this.#fresh.asOf);
      this.#gap = false;
      this.#settle();
    });
    source.addEventListener('changes', (event) => {
      const { totals, as_of: asOf, lag_ms: lag } = JSON.parse(event.data);
      this.#heard(asOf, lag);
      this.#on.changes(totals, this.#fresh.asOf, this.#gap);
      this.#gap = false;
      this.#settle();
    });
    source.addEventListener('error', () => {
      if (source !== this.#source) return;
      this.#cut();
      if (source.readyState === closed) { // not a stream; otherwise the browser reopens it
        this.#outside.later(() => this.#open(), this.#wait);
        this.#wait = Math.min(2 * this.#wait, reopening[1]);
      }
    });
  }

  #cut() {
    this.#opened = false;
    this.#gap = true;
    this.#doubted = 0;
    this.#settle();
  }

  #heard(asOf, lag) {
    this.#doubted = 0;
    this.#fresh = { asOf: Date.parse(asOf), age: lag, at: this.#outside.now() };
  }

  #settle() {
    let state = 'connecting';
    if (this.#fresh) state = this.age < late ? 'live' : 'late';
    if (!this.#opened && (this.#fresh || this.#gap)) state = 'cut';
    if (this.#state === 'cut' && state !== 'cut' && this.#gap) return; // open, but without totals so far
    if (state !== this.#state) {
      this.#state = state;
      this.#on.state(state);
    }
  }

  // ask requests the age of the totals and the tag that changed last, which the stream must have sent.
  async #ask() {
    if (this.#asking) return;
    this.#asking = true;
    const source = this.#source;
    try {
      const response = await this.#outside.lastChange();
      if (!response.ok) return; // the service is there but has no totals: they get old
      const body = await response.json();
      if (source !== this.#source || !this.#opened) return;
      const last = body.tags[0];
      if (this.#on.agrees(last)) {
        this.#heard(body.as_of, body.lag_ms);
        this.#gap = false;
      } else if (++this.#doubted > 2) {
        this.#cut();
        this.#open();
      }
    } catch {
      if (source === this.#source && this.#opened) { // the service does not answer: the stream is dead, too
        this.#cut();
        this.#open();
      }
    } finally {
      this.#asking = false;
      this.#settle();
    }
  }
}
