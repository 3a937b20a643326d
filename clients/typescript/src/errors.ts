/** One thing that is wrong with an entry or a request. */
export interface Fault {
  /** A JSON pointer as a URI fragment (RFC 6901, section 6), such as `#/value`. */
  readonly pointer?: string
  /** A header or a query parameter, in place of the pointer. */
  readonly parameter?: string
  /** The rule. */
  readonly detail: string
}

/** Thrown by `add` for an entry that the API would refuse. */
export class InvalidEntryError extends Error {
  override readonly name = 'InvalidEntryError'
  constructor(readonly faults: readonly string[]) {
    super(`invalid entry: ${faults.join('; ')}`)
  }
}

/** Thrown by `add` when the queue is full. The entry was not taken: await `room()` first. */
export class QueueFullError extends Error {
  override readonly name = 'QueueFullError'
  constructor() {
    super('queue full')
  }
}

/** Thrown by `add` after `close`. The entry was not taken. */
export class ClosedError extends Error {
  override readonly name = 'ClosedError'
  constructor() {
    super('client closed')
  }
}

/** The outcome of entries that were not counted, or possibly not. */
export abstract class OutcomeError extends Error {
  /** `no` if the entries were certainly not counted, `unknown` if each was counted once or not at all. */
  abstract readonly counted: 'no' | 'unknown'
}

/** Entries were refused and certainly not counted. Posting them again would not help. */
export class RefusedError extends OutcomeError {
  override readonly name = 'RefusedError'
  readonly counted = 'no'
  /**
   * @param status the HTTP status of the answer
   * @param faults the rules that the entry breaks; of the whole request if the answer does not say which entry is wrong
   */
  constructor(readonly status: number, detail: string, readonly faults: readonly Fault[] = []) {
    super([`refused: ${status}`, detail, ...faults.map(f => `${f.pointer ?? f.parameter ?? ''} ${f.detail}`.trim())]
      .filter(part => part !== '').join(', '))
  }
}

/** Entries were certainly not counted, because no request with them can have arrived. They may be added again. */
export class NotCountedError extends OutcomeError {
  override readonly name = 'NotCountedError'
  readonly counted = 'no'
  constructor(cause: unknown) {
    super(`not counted: ${textOf(cause)}`, { cause })
  }
}

/**
 * Entries were posted, and no answer came before the horizon or the end of `close`: each was counted once or not at all.
 * Adding them again may count them twice.
 */
export class UnknownError extends OutcomeError {
  override readonly name = 'UnknownError'
  readonly counted = 'unknown'
  constructor(cause: unknown) {
    super(`possibly counted: ${textOf(cause)}`, { cause })
  }
}

/** Thrown by `totals` when the answer says that the request is wrong. */
export class StreamError extends Error {
  override readonly name = 'StreamError'
  constructor(readonly status: number, detail: string) {
    super(`stream refused: ${status} ${detail}`.trim())
  }
}

/** The message of an error with those of its causes: `fetch failed: connect ECONNREFUSED 127.0.0.1:8080`. */
export function textOf(error: unknown): string {
  if (!(error instanceof Error)) {
    return String(error)
  }
  const inner = error instanceof AggregateError && error.message === '' ? error.errors[0] : error.cause
  return [error.message, inner === undefined ? '' : textOf(inner)].filter(text => text !== '').join(': ')
}
