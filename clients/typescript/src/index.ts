export { Client, type Options, type Outcome, type Retry } from './client.js'
export type { Contribution, Entry, Increment } from './entry.js'
export {
  ClosedError, type Fault, InvalidEntryError, NotCountedError, OutcomeError, QueueFullError, RefusedError, StreamError, UnknownError,
} from './errors.js'
export { type StreamOptions, totals, type Totals } from './stream.js'
