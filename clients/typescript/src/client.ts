import { type Answer, failure, read } from './answer.js'
import { Batch, LastBatch, sizeOf } from './batch.js'
import { encode, type Entry, faultsOf, type Kind, kindOf } from './entry.js'
import {
  ClosedError, InvalidEntryError, NotCountedError, type OutcomeError, QueueFullError, RefusedError, textOf, UnknownError,
} from './errors.js'
import { backoff, sleep, spread } from './wait.js'

/** The result of posting some entries. */
export interface Outcome {
  /** The entries that the outcome applies to, in the order in which they were added. */
  readonly entries: readonly Entry[]
  /** Undefined if they were counted. */
  readonly error: OutcomeError | undefined
  /** The number of requests that were made. */
  readonly tries: number
}

/** A request that failed and will be repeated. */
export interface Retry {
  /** The number of entries in the request. */
  readonly entries: number
  /** The number of requests with these entries so far. */
  readonly tries: number
  /** The reason of the failure. */
  readonly error: Error
  /** The pause before the next request, in milliseconds. */
  readonly wait: number
}

/** The options of a client. Only the URL is required. */
export interface Options {
  /** The address of ingest, such as `https://ingest.example.com`. */
  readonly url: string | URL
  /** The most entries in one request: 1 to 1000, 500 by default. */
  readonly batch?: number
  /** How long an entry waits for others before it is posted, in milliseconds: 50 by default. A full batch is posted at once. */
  readonly linger?: number
  /** The most entries that wait to be posted, besides those in requests under way: 10,000 by default. */
  readonly queue?: number
  /** The most requests under way at the same time: 4 by default. */
  readonly posts?: number
  /** How long the system remembers a key (its `IDEMPOTENCY_HORIZON`), in milliseconds: 15 minutes by default. */
  readonly horizon?: number
  /** Bounds one request, in milliseconds: 15 seconds by default. */
  readonly timeout?: number
  /** Called once with each outcome. */
  readonly report?: (outcome: Outcome) => void
  /** Called after each request that failed and will be repeated. */
  readonly reportRetry?: (retry: Retry) => void
  /** Makes the requests, for example with credentials. The default is the global fetch. */
  readonly fetch?: typeof fetch
}

/** How long answers that are not from Accrue are retried, in milliseconds. */
const foreignPatience = 60_000
const firstPause = 100
const maxPause = 10_000
/** The most bytes that browsers send with `keepalive` at the same time, and so after a page has closed. */
const maxKeepalive = 64 << 10

/**
 * A client collects increments and contributions, posts them in batches, and retries until each is counted exactly once.
 *
 * A request that failed may have been counted all the same. The client posts the same body with the same key again, and Accrue
 * counts a key once. It stops before the key is forgotten, and reports an `UnknownError`. A request that certainly did not arrive is
 * retried until `close` gives up.
 *
 * In a browser, what is left when the page closes is sent with `keepalive`, which browsers limit to 64 KB: some 800 increments.
 */
export class Client {
  readonly #options: Required<Omit<Options, 'url' | 'report' | 'reportRetry'>> & Options
  readonly #paths: Record<Kind, string>
  /** The batches that fill. */
  readonly #open = new Map<Kind, Batch>()
  /** The batches that wait for a request to end. */
  readonly #full: Batch[] = []
  readonly #underWay = new Set<Batch>()
  /** How many entries are in #open and #full. */
  #waiting = 0
  #timer: ReturnType<typeof setTimeout> | undefined
  /** The open batches have waited long enough. */
  #due = false
  #closed = false
  #connected = false
  #keepaliveBytes = 0
  readonly #trying = new AbortController()
  readonly #failures = new Map<OutcomeError['name'], { entries: number, first: OutcomeError }>()
  #rooms: (() => void)[] = []
  readonly #hide = (): void => this.#sendLast()

  /** Returns a client. It does not connect to ingest. Throws a RangeError that names every option that is out of bounds. */
  constructor(options: Options) {
    this.#options = {
      batch: 500, linger: 50, queue: 10_000, posts: 4, horizon: 15 * 60_000, timeout: 15_000,
      fetch: (...request) => fetch(...request), ...options,
    }
    const { batch, linger, queue, posts, horizon, timeout } = this.#options
    const faults: string[] = []
    const check = (name: string, value: number, least: number, most: number): void => {
      if (!(value >= least && value <= most)) {
        faults.push(`${name} must be ${least} to ${most}`)
      }
    }
    check('batch', batch, 1, 1000)
    check('linger', linger, 0, 60_000)
    check('queue', queue, 1, 1_000_000)
    check('posts', posts, 1, 100)
    check('horizon', horizon, 60_000, 34 * 24 * 3600_000)
    check('timeout', timeout, 1, horizon / 4)
    if (faults.length > 0) {
      throw new RangeError(faults.join('; '))
    }
    const base = new URL(String(options.url).replace(/\/*$/, '/'))
    this.#paths = { increments: new URL('increments/batch', base).href, contributions: new URL('contributions/batch', base).href }
    if (typeof document === 'object') { // not in Node, Deno or a worker
      addEventListener('pagehide', this.#hide)
    }
  }

  /** The number of entries that wait to be posted. A queue that stays full means that ingest is slower than the producer. */
  get waiting(): number {
    return this.#waiting
  }

  /**
   * Queues an entry to be posted. Throws an InvalidEntryError, a QueueFullError or a ClosedError, and then the entry was not
   * taken. That it was taken does not mean that it is counted: see `report`, `flush` and `close`.
   */
  add(entry: Entry): void {
    const faults = faultsOf(entry)
    if (faults.length > 0) {
      throw new InvalidEntryError(faults)
    }
    if (this.#closed) {
      throw new ClosedError()
    }
    if (this.#waiting >= this.#options.queue) {
      throw new QueueFullError()
    }
    const kind = kindOf(entry)
    const item = encode(entry)
    const size = sizeOf(item)
    let batch = this.#open.get(kind)
    if (batch !== undefined && !batch.fits(size, this.#options.batch)) {
      this.#full.push(batch)
      batch = undefined
    }
    if (batch === undefined) {
      batch = new Batch(kind)
      this.#open.set(kind, batch)
    }
    batch.add(entry, item, size)
    this.#waiting++
    if (batch.entries.length >= this.#options.batch) {
      this.#open.delete(kind)
      this.#full.push(batch)
    }
    this.#postSoon()
    this.#post()
  }

  /** Returns when the queue has room for another entry. */
  async room(): Promise<void> {
    while (this.#waiting >= this.#options.queue && !this.#closed) {
      await new Promise<void>(resolve => this.#rooms.push(resolve))
    }
  }

  /**
   * Posts the entries that were added before the call, and returns when each of them has its outcome. Rejects with an
   * AggregateError if anything that got an outcome since the last call was not counted, or possibly not: it has the first error of
   * each kind.
   */
  async flush(): Promise<void> {
    const batches = [...this.#underWay, ...this.#full, ...this.#open.values()]
    this.#due = true
    this.#post()
    await Promise.all(batches.map(batch => batch.delivered))
    const failures = [...this.#failures.values()]
    this.#failures.clear()
    if (failures.length > 0) {
      throw new AggregateError(failures.map(f => f.first), failures.map(f => `${f.entries} entries: ${f.first.message}`).join('; '))
    }
  }

  /**
   * Posts the queued entries and returns when each has its outcome; `add` throws from then on. After `timeout` milliseconds it gives
   * up: entries that may have arrived get an UnknownError, the others a NotCountedError. Rejects like `flush`.
   */
  async close(timeout?: number): Promise<void> {
    this.#closed = true
    this.#rooms.splice(0).forEach(resolve => resolve())
    const timer = timeout === undefined ? undefined : setTimeout(() => this.#trying.abort(new Error('closed')), timeout)
    try {
      await this.flush()
    } finally {
      clearTimeout(timer)
      if (typeof document === 'object') {
        removeEventListener('pagehide', this.#hide)
      }
    }
  }

  /** Posts what is ready, as far as the number of requests allows. */
  #post(): void {
    while (this.#underWay.size < this.#options.posts) {
      const batch = this.#full.shift() ?? (this.#due ? this.#takeOpen() : undefined)
      if (batch === undefined) {
        return
      }
      this.#waiting -= batch.entries.length
      this.#rooms.splice(0).forEach(resolve => resolve())
      void this.#deliver(batch, false)
    }
  }

  /** Posts the open batches when they have waited long enough. */
  #postSoon(): void {
    this.#timer ??= setTimeout(() => {
      this.#due = true
      this.#post()
    }, this.#options.linger)
  }

  /** Takes an open batch, or ends the wait for the next ones. */
  #takeOpen(): Batch | undefined {
    for (const [kind, batch] of this.#open) {
      this.#open.delete(kind)
      return batch
    }
    this.#due = false
    clearTimeout(this.#timer)
    this.#timer = undefined
    return undefined
  }

  /** Posts a batch until every entry has its outcome. A batch of which a part was refused is divided. */
  async #deliver(batch: Batch, keepalive: boolean): Promise<void> {
    this.#underWay.add(batch)
    for (const left = [batch]; left.length > 0;) {
      left.push(...await this.#settle(left.pop()!, keepalive))
    }
    this.#underWay.delete(batch)
    batch.settle()
    this.#post()
  }

  /** Posts a batch until there is an outcome, and reports it. Returns what is left to post as new batches. */
  async #settle(batch: Batch, keepalive: boolean): Promise<Batch[]> {
    const { horizon, timeout } = this.#options
    const patience = horizon - Math.max(horizon / 10, timeout)
    let arrived: number | undefined // when the first request began that may have arrived
    let foreign: number | undefined // when the first of the latest requests began that were answered by something else
    let last: Error = new Error('closed before the first request')
    const end = (tries: number, error?: OutcomeError): Batch[] => {
      this.#report({ entries: batch.entries, error, tries })
      return []
    }
    let tries = 0
    while (!this.#trying.signal.aborted) {
      const tried = performance.now()
      const answer = await this.#try(batch, keepalive && tries === 0)
      tries++
      last = answer.error ?? last
      if (answer.result === 'unknown') {
        arrived ??= tried
      }
      foreign = answer.foreign ? foreign ?? tried : undefined
      let wait = Math.max(backoff(firstPause, maxPause, tries), spread(answer.retryAfter))
      if (answer.foreign) {
        wait = Math.min(wait, foreignPatience / 4)
      }
      const after = (since: number | undefined): number => since === undefined ? 0 : performance.now() - since + wait
      const failed = (error: Error): OutcomeError => arrived === undefined ? new NotCountedError(error) : new UnknownError(error)
      switch (true) {
        case answer.result === 'accepted':
          return end(tries)
        case answer.status === 413 && batch.entries.length > 1 && arrived === undefined: {
          const half = batch.entries.length >> 1
          return [batch.of(batch.entries.slice(half)), batch.of(batch.entries.slice(0, half))]
        }
        case answer.result === 'refused' && arrived === undefined:
          return this.#divide(batch, answer, tries)
        case answer.result === 'refused': // an earlier request may have been counted
        case answer.result === 'misdirected':
        case after(arrived) > patience:
          return end(tries, failed(last))
        case after(foreign) > foreignPatience:
          return end(tries, arrived === undefined ? new RefusedError(answer.status, textOf(last)) : new UnknownError(last))
      }
      this.#options.reportRetry?.({ entries: batch.entries.length, tries, error: last, wait })
      await sleep(wait, this.#trying.signal)
    }
    return end(tries, arrived === undefined ? new NotCountedError(last) : new UnknownError(last))
  }

  /** Reports the entries of a refused batch that are wrong, and returns the others in new batches. */
  #divide(batch: Batch, answer: Answer, tries: number): Batch[] {
    const faults = batch.faultsByEntry(answer.faults)
    const error = answer.error as RefusedError
    if (faults.size === 0) {
      this.#report({ entries: batch.entries, error, tries })
      return []
    }
    const good: Entry[] = []
    batch.entries.forEach((entry, i) => {
      const of = faults.get(i)
      if (of === undefined) {
        good.push(entry)
      } else {
        this.#report({ entries: [entry], error: new RefusedError(answer.status, '', of), tries })
      }
    })
    return good.length === 0 ? [] : [batch.of(good)]
  }

  /** Posts a batch once. */
  async #try(batch: Batch, keepalive: boolean): Promise<Answer> {
    const request = batch.request()
    if (keepalive) {
      this.#keepaliveBytes += batch.size
    }
    // Not AbortSignal.any: Node keeps what is aborted by it for as long as the client lives.
    const trying = new AbortController()
    const stop = (): void => trying.abort(this.#trying.signal.reason)
    this.#trying.signal.addEventListener('abort', stop)
    const timer = setTimeout(() => trying.abort(new Error(`no answer within ${this.#options.timeout} ms`)), this.#options.timeout)
    try {
      const response = await this.#options.fetch(this.#paths[batch.kind], {
        method: 'POST', ...request, keepalive, signal: trying.signal,
        redirect: 'manual', // Accrue never redirects. Entries must not go where a proxy points to
        credentials: 'omit', cache: 'no-store',
      })
      this.#connected = true
      return await read(response)
    } catch (error) {
      return failure(error, this.#connected)
    } finally {
      clearTimeout(timer)
      this.#trying.signal.removeEventListener('abort', stop)
      if (keepalive) {
        this.#keepaliveBytes -= batch.size
      }
    }
  }

  #report(outcome: Outcome): void {
    const { error, entries } = outcome
    if (error !== undefined) {
      const failure = this.#failures.get(error.name) ?? { entries: 0, first: error }
      failure.entries += entries.length
      this.#failures.set(error.name, failure)
    }
    this.#options.report?.(outcome)
  }

  /**
   * Sends what is left as the page closes. What waits goes first: it has certainly not arrived. Then the batches under way, once
   * more: their requests end with the page, and their keys make the second one harmless. The page may come back from the browser's
   * cache; then all goes on as usual.
   */
  #sendLast(): void {
    const sent = [...this.#underWay]
    const waiting = [...this.#full.splice(0), ...this.#open.values()]
    this.#open.clear()
    this.#waiting = 0
    for (const batch of waiting) {
      const last = new LastBatch(batch.kind)
      const left: Entry[] = []
      for (const entry of batch.entries) {
        if (this.#keepaliveBytes + last.size + LastBatch.most > maxKeepalive) {
          left.push(entry)
        } else {
          last.add(entry)
        }
      }
      const parts = []
      if (last.entries.length > 0) {
        void this.#deliver(last, true)
        parts.push(last)
      }
      if (left.length > 0) {
        const rest = batch.of(left)
        this.#full.push(rest)
        this.#waiting += left.length
        parts.push(rest)
      }
      void Promise.all(parts.map(part => part.delivered)).then(batch.settle) // for which a flush may wait
    }
    for (const batch of sent) {
      if (this.#keepaliveBytes + batch.size <= maxKeepalive) {
        void this.#try(batch, true)
      }
    }
    this.#postSoon()
  }
}
