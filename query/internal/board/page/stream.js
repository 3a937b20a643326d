// The stream of totals, kept open, and what is known of how old they are.

// quiet is the silence, in milliseconds, after which the service is asked whether the totals still hold: a stream on which
// nothing changes is silent, and so is one that has died without a word.
const quiet = 5_000;

// late is the age from which totals are called old although the stream is open.
const late = 15_000;

// reopening is the wait before a stream that the browser has given up is opened anew; it doubles up to the last.
const reopening = [2_000, 30_000];

// closed is the readyState of a source that the browser does not try again: EventSource.CLOSED.
const closed = 2;

// toTheService is what the stream needs of the world outside, as it is in a browser.
const toTheService = {
  open: () => new EventSource('stats/stream'),
  // lastChange is of which time the totals are, and the tag that changed last: a response with the body of /tags.
  lastChange: () => fetch('tags?order_by=-updated_at&page_size=1', { signal: AbortSignal.timeout(8000) }),
  now: () => performance.now(),
  later: (call, ms) => setTimeout(call, ms),
};

// Stream calls on.snapshot(totals, asOf), on.changes(totals, asOf, gap) and on.state(state), where a state is connecting,
// live, late or cut, and asks on.agrees(tag) whether it has told the total of a tag. Times are milliseconds by the server's
// clock.
export class Stream {
  #on;
  #outside;
  #source = null;
  #state = 'connecting';
  #opened = false; // and not cut since
  #gap = false; // something may have been missed
  #fresh = null; // {asOf, age, at}: what was last heard of the age of the totals
  #doubted = 0; // how often in a row the service had another total than the stream
  #wait = reopening[0];
  #asking = false;

  constructor(on, outside = toTheService) {
    this.#on = on;
    this.#outside = outside;
  }

  // start opens the stream. From then on tick is to be called every second.
  start() {
    this.#open();
  }

  // tick looks after the stream.
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
      this.#ask(); // a stream that resumes where nothing has changed says nothing
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
      if (source.readyState === closed) { // an answer that is no stream; else the browser tries again
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
    if (this.#state === 'cut' && state !== 'cut' && this.#gap) return; // open, and not a word of the totals yet
    if (state !== this.#state) {
      this.#state = state;
      this.#on.state(state);
    }
  }

  // ask asks of which time the totals are, and what has changed last, which the stream must have told.
  async #ask() {
    if (this.#asking) return;
    this.#asking = true;
    const source = this.#source;
    try {
      const response = await this.#outside.lastChange();
      if (!response.ok) return; // it is there, and has no totals: they grow old
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
      if (source === this.#source && this.#opened) { // nobody answers: then the stream is no better
        this.#cut();
        this.#open();
      }
    } finally {
      this.#asking = false;
      this.#settle();
    }
  }
}
