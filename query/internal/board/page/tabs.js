// One stream for all tabs of a browser, which opens only six connections to a server over HTTP/1.1: the tab that holds a lock
// has the stream and tells the others. A tab that is hidden has none and tells nothing.
import { late, Stream } from './stream.js';

const lock = 'accrue totals';

// rest is how long a tab may be hidden before it stops.
const rest = 5_000;

// hush is the silence of the tab with the stream, in milliseconds, after which another tab takes its place: it is frozen.
const hush = 5_000;

// theBrowser is the environment in a browser. Without locks, which need HTTPS or localhost, each tab has its own stream.
// Boards below different paths are of different services.
const theBrowser = {
  locks: navigator.locks,
  channel: () => new BroadcastChannel(`accrue totals ${location.pathname}`),
  lock: `${lock} ${globalThis.location?.pathname}`,
  stream: (on) => new Stream(on),
  now: () => performance.now(),
  later: (call, ms) => setTimeout(call, ms),
  cancel: (timer) => clearTimeout(timer),
  random: Math.random,
};

// Tabs is a Stream that is shared: on is as that of a stream, and on.all() returns all totals by name.
export class Tabs {
  #on;
  #outside;
  #stream = null; // in the tab that has it
  #channel = null;
  #release = null; // gives the lock back
  #waiting = null; // an AbortController: the lock was requested
  #runs = false;
  #resting = null; // the timer of a hidden tab
  #known = false; // the totals were received since this tab runs
  #told = null; // {state, polls, asOf, age, id, at}: what the other tab last told
  #state = 'connecting';

  constructor(on, outside = theBrowser) {
    this.#on = { ...on, state: () => this.#settle() };
    this.#outside = { ...outside, tell: on.state };
  }

  // visible starts a tab that is seen, and stops one that is not seen for a while.
  visible(yes) {
    this.#outside.cancel(this.#resting);
    if (yes) this.#start();
    else this.#resting = this.#outside.later(() => this.#stop(), rest);
  }

  // tick must be called every second.
  tick() {
    if (!this.#runs) return;
    this.#stream?.tick();
    if (this.#stream) this.#say('now');
    else if (this.#outside.now() - this.#told.at > hush + this.#told.patience) this.#request({ steal: true });
    this.#settle();
  }

  get state() {
    return this.#state;
  }

  get polls() {
    return this.#stream ? this.#stream.polls : Boolean(this.#told?.polls);
  }

  get asOf() {
    return this.#stream?.asOf ?? this.#told?.asOf ?? null;
  }

  get age() {
    if (this.#stream && this.#stream.age !== null) return this.#stream.age;
    return this.#told?.asOf != null ? this.#told.age + this.#outside.now() - this.#told.at : null;
  }

  // leads is whether this tab has the stream.
  get leads() {
    return this.#stream !== null;
  }

  #start() {
    if (this.#runs) return;
    this.#runs = true;
    this.#known = false;
    // One that was told something keeps it, since the totals are still shown.
    this.#told = { ...this.#told, age: this.age, state: 'connecting', at: this.#outside.now(), patience: hush * this.#outside.random() };
    if (!this.#outside.locks) {
      this.#lead();
      return;
    }
    this.#channel = this.#outside.channel();
    this.#channel.onmessage = ({ data }) => this.#hear(data);
    this.#channel.postMessage({ kind: 'hello' });
    this.#request({});
  }

  #stop() {
    if (!this.#runs) return;
    this.#runs = false;
    this.#waiting?.abort();
    this.#waiting = null;
    this.#follow();
    this.#channel?.close();
    this.#channel = null;
  }

  async #request(options) {
    this.#waiting?.abort();
    const waiting = new AbortController();
    this.#waiting = waiting;
    if (options.steal) this.#told.at = this.#outside.now(); // one attempt at a time
    try {
      await this.#outside.locks.request(this.#outside.lock, options.steal ? options : { signal: waiting.signal }, () => {
        if (!this.#runs || waiting.signal.aborted) return null;
        this.#lead();
        return new Promise((release) => { this.#release = release; });
      });
    } catch {
      // Withdrawn, or stolen by a tab that took this one for frozen.
    }
    if (this.#waiting !== waiting) return;
    this.#follow();
    if (this.#runs) this.#request({});
  }

  // lead opens the stream, after what is known.
  #lead() {
    if (this.#stream) return;
    this.#stream = this.#outside.stream({
      snapshot: (totals, asOf) => {
        this.#known = true;
        this.#on.snapshot(totals, asOf);
        this.#say('snapshot', { totals });
      },
      changes: (totals, asOf, gap) => {
        this.#known = true;
        this.#on.changes(totals, asOf, gap);
        this.#say('changes', { totals, gap });
      },
      agrees: (tag) => this.#on.agrees(tag),
      state: () => {
        this.#say('now');
        this.#settle();
      },
    });
    const { id, asOf } = this.#told;
    this.#stream.start(this.#known && id ? { id, asOf, age: this.age } : null);
  }

  // follow closes the stream, if this tab has it.
  #follow() {
    if (this.#stream) {
      this.#told = { ...this.#told, ...this.#now(), at: this.#outside.now() };
      this.#stream.stop();
      this.#stream = null;
    }
    this.#release?.();
    this.#release = null;
  }

  #now() {
    const { state, polls, asOf, age, id } = this.#stream;
    return { state, polls, asOf, age, id };
  }

  // say tells the other tabs.
  #say(kind, more = {}) {
    this.#channel?.postMessage({ kind, ...this.#now(), ...more });
  }

  #hear({ kind, totals, gap, ...now }) {
    if (!this.#runs) return;
    if (kind === 'hello') {
      if (this.#stream && this.#known) this.#say('all', { totals: this.#on.all() });
      return;
    }
    if (this.#stream) return; // from a tab that does not know yet that it has lost the lock
    this.#told = { ...this.#told, ...now, at: this.#outside.now() };
    if (kind === 'snapshot' || (kind === 'all' && !this.#known)) {
      this.#known = true;
      this.#on.snapshot(totals, now.asOf);
    } else if (kind === 'changes' && this.#known) {
      this.#on.changes(totals, now.asOf, gap);
    }
    this.#settle();
  }

  #settle() {
    let state = this.#stream?.state ?? this.#told.state;
    if (state === 'live' && this.age >= late) state = 'late';
    if (state === 'live' && !this.#known) state = 'connecting';
    if (state === this.#state) return;
    this.#state = state;
    this.#outside.tell(state);
  }
}
