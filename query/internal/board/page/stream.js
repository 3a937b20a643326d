// The totals of the service as they change, and their age: from the stream, or by polling where streams do not pass.

// quiet is the silence, in milliseconds, after which the totals are verified with a request: a stream without changes is
// silent, and so is a dead one.
const quiet = 3_000;

// late is the age from which totals are called old although the service answers.
export const late = 8_000;

// swallowed is how long an open stream may take for its first event. A proxy that buffers keeps it back for much longer.
const swallowed = 4_000;

// polling is the time between two reads of all totals while there is no stream.
const polling = 2_000;

// reopening is the wait before a stream that has failed is opened again; it doubles up to the second value. swallowing is
// the same for one that was swallowed.
const reopening = [2_000, 30_000];
const swallowing = [60_000, 300_000];

// blip is the longest interruption after which the rates go on.
const blip = 5_000;

// closed is the readyState of a source that the browser does not reopen: EventSource.CLOSED.
const closed = 2;

// toTheService is the stream's environment in a browser.
const toTheService = {
  // open opens the stream, after the event with an id.
  open: (id) => new EventSource(`stats/stream${id ? `?lastEventId=${encodeURIComponent(id)}` : ''}`),
  // lastChange returns the response of /tags with the tag that changed last.
  lastChange: () => fetch('tags?order_by=-updated_at&page_size=1', { signal: AbortSignal.timeout(8000) }),
  // totals returns the response of /stats, which is a 304 if they are those of an entity tag.
  totals: (etag) => fetch('stats', { cache: 'no-store', headers: etag ? { 'If-None-Match': etag } : {}, signal: AbortSignal.timeout(8000) }),
  now: () => performance.now(),
};

// Stream calls on.snapshot(totals, asOf), on.changes(totals, asOf, gap) and on.state(state), where a state is connecting,
// live, late or cut. on.agrees(tag) returns whether the board shows that total of a tag. Times are milliseconds by the
// server's clock.
export class Stream {
  #on;
  #outside;
  #source = null;
  #state = 'connecting';
  #answers = false; // the service does, as far as is known
  #begun = 0; // when the stream was opened, or last failed
  #heardStream = false; // since it was opened
  #gap = false; // something may have been missed
  #fresh = null; // {asOf, age, at}: the age of the totals, as last received
  #id = ''; // of the last event
  #doubted = 0; // consecutive answers with another total than the stream
  #reopenAt = 0;
  #reopening = reopening[0];
  #swallowing = swallowing[0];
  #etag = '';
  #polledAt = -Infinity;
  #asking = false;
  #stopped = false;

  constructor(on, outside = toTheService) {
    this.#on = on;
    this.#outside = outside;
  }

  // start opens the stream, after the event with an id if there is one: the totals up to it are known. tick must then be
  // called every second.
  start(known = null) {
    if (known) {
      this.#id = known.id;
      this.#fresh = { asOf: known.asOf, age: known.age, at: this.#outside.now() };
      this.#gap = true;
    }
    this.#open();
  }

  stop() {
    this.#stopped = true;
    this.#source?.close();
    this.#source = null;
  }

  // tick verifies a silent stream, polls where there is none, and updates the state.
  tick() {
    const now = this.#outside.now();
    if (this.#source && !this.#heardStream && now - this.#begun > swallowed) {
      this.#poll(this.#swallowing);
      this.#swallowing = Math.min(2 * this.#swallowing, swallowing[1]);
    }
    if (!this.#source && now >= this.#reopenAt) this.#open();
    if (this.polls) {
      if (now - this.#polledAt >= polling) this.#read();
    } else if (this.#answers && this.#fresh && now - this.#fresh.at > quiet) {
      this.#ask();
    }
    this.#settle();
  }

  get state() {
    return this.#state;
  }

  // polls is whether the totals are polled, since the stream says nothing.
  polls = false;

  // asOf is the time that the totals are of, or null before the first.
  get asOf() {
    return this.#fresh && this.#fresh.asOf;
  }

  // age is how old the totals are, in milliseconds, or null before the first.
  get age() {
    return this.#fresh && this.#fresh.age + this.#outside.now() - this.#fresh.at;
  }

  // id is that of the last event.
  get id() {
    return this.#id;
  }

  #open() {
    this.#source?.close();
    const source = this.#outside.open(this.#id);
    this.#source = source;
    this.#begun = this.#outside.now();
    this.#heardStream = false;
    source.addEventListener('open', () => {
      if (source !== this.#source) return;
      if (!this.polls) this.#answers = true;
      this.#reopening = reopening[0];
      if (this.#fresh) this.#ask(); // a stream that resumes without changes is silent
    });
    const hear = (whole) => (event) => {
      if (source !== this.#source) return;
      const { totals, as_of: asOf, lag_ms: lag } = JSON.parse(event.data);
      this.#heardStream = true;
      this.#answers = true;
      this.polls = false;
      this.#swallowing = swallowing[0];
      this.#id = event.lastEventId ?? '';
      this.#take(totals, Date.parse(asOf), lag, whole);
    };
    source.addEventListener('snapshot', hear(true));
    source.addEventListener('changes', hear(false));
    source.addEventListener('error', () => {
      if (source !== this.#source) return;
      this.#begun = this.#outside.now();
      if (!this.polls) this.#cut();
      if (source.readyState === closed) { // not a stream; otherwise the browser reopens it
        this.#poll(this.#reopening);
        this.#reopening = Math.min(2 * this.#reopening, reopening[1]);
      }
    });
  }

  // poll reads the totals, until the stream is opened again after a time and says something.
  #poll(wait) {
    this.#source?.close();
    this.#source = null;
    this.#reopenAt = this.#outside.now() + wait;
    this.polls = true;
  }

  #cut() {
    this.#answers = false;
    this.#gap = true;
    this.#doubted = 0;
    this.#settle();
  }

  // take passes totals on: those of the whole, or those that have changed. What a short interruption has held back is a change.
  #take(totals, asOf, lag, whole) {
    const before = this.asOf;
    const short = before !== null && asOf - before <= blip;
    this.#heard(asOf, lag);
    if (whole && !short) this.#on.snapshot(totals, asOf);
    else this.#on.changes(totals, asOf, this.#gap && !short);
    this.#gap = false;
    this.#settle();
  }

  #heard(asOf, lag) {
    this.#doubted = 0;
    this.#fresh = { asOf, age: lag, at: this.#outside.now() };
  }

  #settle() {
    if (this.#stopped) return;
    let state = 'connecting';
    if (this.#fresh) state = this.age < late ? 'live' : 'late';
    if (!this.#answers && (this.#fresh || this.#gap)) state = 'cut';
    if (this.#state === 'cut' && state !== 'cut' && this.#gap) return; // open, but without totals so far
    if (state !== this.#state) {
      this.#state = state;
      this.#on.state(state);
    }
  }

  // ask requests the age of the totals and the tag that changed last, which the stream must have sent.
  async #ask() {
    if (this.#asking || this.polls) return;
    this.#asking = true;
    const source = this.#source;
    const current = () => source === this.#source && this.#answers && !this.polls;
    try {
      const response = await this.#outside.lastChange();
      if (!response.ok) return; // the service is there but has no totals: they get old
      const body = await response.json();
      if (!current()) return;
      const last = body.tags[0];
      if (this.#on.agrees(last)) {
        this.#heard(Date.parse(body.as_of), body.lag_ms);
        this.#heardStream = true; // what it has not said, it need not say
        this.#gap = false;
      } else if (++this.#doubted > 2) {
        this.#cut();
        if (this.#heardStream) this.#open();
        else this.#poll(this.#swallowing);
      }
    } catch {
      if (current()) { // the service does not answer: the stream is dead, too
        this.#cut();
        this.#open();
      }
    } finally {
      this.#asking = false;
      this.#settle();
    }
  }

  // read reads all totals.
  async #read() {
    if (this.#asking) return;
    this.#asking = true;
    this.#polledAt = this.#outside.now();
    try {
      const response = await this.#outside.totals(this.#fresh && !this.#gap ? this.#etag : '');
      if (!response.ok && response.status !== 304) return; // the service is there but has no totals: they get old
      const asOf = Date.parse(response.headers.get('X-As-Of'));
      const lag = Math.max(0, Date.parse(response.headers.get('Date')) - asOf) || 0;
      const totals = response.status === 304 ? null : await response.json();
      if (!this.polls || this.#stopped) return; // the stream was faster
      if (this.#gap) this.#reopenAt = Math.min(this.#reopenAt, this.#outside.now() + reopening[0]); // it may have been the service
      this.#answers = true;
      this.#id = ''; // what was read is of no event
      this.#etag = response.headers.get('ETag') ?? '';
      if (totals) this.#take(totals, asOf, lag, true);
      else this.#heard(asOf, lag);
    } catch {
      if (this.polls && !this.#stopped) this.#cut();
    } finally {
      this.#asking = false;
      this.#settle();
    }
  }
}
