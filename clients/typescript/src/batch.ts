import { encode, type Entry, type Kind } from './entry.js'
import type { Fault } from './errors.js'

/** The largest body that ingest accepts, in bytes. */
const maxBody = 1 << 20
/** What surrounds the items in a body is shorter. */
const frame = 64

/** Entries that are posted together, under one key. A batch does not change after its first request. */
export class Batch {
  readonly entries: Entry[] = []
  /** The size of the body in bytes, and a little. */
  size = frame
  /** The key of the whole batch, sent as a header. */
  readonly key = newKey()
  /** Settles when every entry has its outcome. */
  readonly delivered: Promise<void>
  readonly settle: () => void
  readonly #items: string[] = []

  constructor(readonly kind: Kind) {
    let settle = (): void => {}
    this.delivered = new Promise(resolve => {
      settle = resolve
    })
    this.settle = settle
  }

  /** Reports whether there is room for another item of a size. */
  fits(size: number, maxEntries: number): boolean {
    return this.entries.length < maxEntries && this.size + size <= maxBody
  }

  add(entry: Entry, item: string, size: number): void {
    this.entries.push(entry)
    this.#items.push(item)
    this.size += size
  }

  /** Returns the request of the batch, the same each time. */
  request(): { body: string, headers: Record<string, string> } {
    return {
      body: `{"${this.kind}":[${this.#items.join(',')}]}`,
      headers: { 'Content-Type': 'application/json', 'Idempotency-Key': this.key },
    }
  }

  /** Returns new batches of some of the entries, under new keys. The entries must certainly not be counted. */
  of(entries: readonly Entry[]): Batch {
    const batch = new Batch(this.kind)
    for (const entry of entries) {
      const item = encode(entry)
      batch.add(entry, item, sizeOf(item))
    }
    return batch
  }

  /** Groups the faults of a refusal by the index of the entry, and makes their pointers relative to it. */
  faultsByEntry(faults: readonly Fault[]): Map<number, Fault[]> {
    const grouped = new Map<number, Fault[]>()
    for (const fault of faults) {
      const [hash, list, index, ...field] = (fault.pointer ?? '').split('/')
      const i = Number(index)
      if (hash !== '#' || list !== this.kind || !/^\d+$/.test(index ?? '') || i >= this.entries.length) {
        continue
      }
      const of = grouped.get(i) ?? []
      of.push({ ...fault, pointer: ['#', ...field].join('/') })
      grouped.set(i, of)
    }
    return grouped
  }
}

/**
 * A batch for a page that closes. Each entry has an id in place of the batch's key, and the body is text/plain: with nothing
 * else in it, browsers send it without a preflight request, for which there may be no time.
 */
export class LastBatch extends Batch {
  /** The most bytes that an entry adds. */
  static readonly most = 2048

  override add(entry: Entry): void {
    const item = encode({ ...entry, id: entry.id ?? `${this.key}-${this.entries.length}` })
    super.add(entry, item, sizeOf(item))
  }

  override request(): { body: string, headers: Record<string, string> } {
    return { body: super.request().body, headers: { 'Content-Type': 'text/plain' } }
  }
}

const encoder = new TextEncoder()

/** Returns what an item adds to a body, in bytes. */
export function sizeOf(item: string): number {
  return encoder.encode(item).length + 1
}

/** Returns a key of 128 random bits. crypto.randomUUID is for secure contexts only. */
function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), byte => byte.toString(16).padStart(2, '0')).join('')
}
