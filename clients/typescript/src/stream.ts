import { retryAfterOf } from './answer.js'
import { StreamError } from './errors.js'
import { backoff, sleep, spread } from './wait.js'

/** All totals at one time, and what has changed since the last ones. */
export interface Totals {
  /** The totals of all tags, by name. It is one map, which the next iteration changes. */
  readonly totals: ReadonlyMap<string, number>
  /** The new totals of the tags that have changed. */
  readonly changed: ReadonlyMap<string, number>
  /** The time that the totals are of, by the database's clock. */
  readonly asOf: Date
}

/** The options of a stream. Only the URL is required. */
export interface StreamOptions {
  /** The address of query, such as `https://query.example.com`. */
  readonly url: string | URL
  /** Ends the iteration. */
  readonly signal?: AbortSignal
  /** Called after each connection that failed or ended. The stream reconnects after the pause, in milliseconds. */
  readonly reportRetry?: (retry: { readonly error: Error, readonly wait: number }) => void
  /** Makes the requests. The default is the global fetch. */
  readonly fetch?: typeof fetch
}

/** The longest silence on a connection, in milliseconds: query sends a comment every 15 seconds. */
const silence = 45_000
const maxPause = 30_000

/**
 * Yields all totals at once, and again when some have changed, at most once a second. It reconnects by itself and continues where it
 * stopped; a slow reader skips intermediate totals. It ends when the signal is aborted or the loop is left, and throws a StreamError
 * if the request is wrong.
 */
export async function* totals(options: StreamOptions): AsyncGenerator<Totals, void, void> {
  const address = new URL('stats/stream', String(options.url).replace(/\/*$/, '/'))
  const get = options.fetch ?? ((...request: Parameters<typeof fetch>) => fetch(...request))
  const ended = new AbortController()
  const end = (): void => ended.abort()
  options.signal?.addEventListener('abort', end)
  if (options.signal?.aborted === true) {
    end()
  }
  const all = new Map<string, number>()
  let pause = 2000
  let failures = 0
  try {
    while (!ended.signal.aborted) {
      let error = new Error('the stream ended')
      let wait = 0
      const connection = new Connection(ended.signal)
      try {
        // As a parameter, since the header would cost a preflight request.
        const response = await get(address, { headers: { Accept: 'text/event-stream' }, cache: 'no-store', signal: connection.signal })
        if (response.status >= 400 && response.status < 500 && ![408, 425, 429].includes(response.status)) {
          throw new StreamError(response.status, await response.text())
        }
        if (response.status !== 200 || response.body === null || !response.headers.get('Content-Type')?.startsWith('text/event-stream')) {
          wait = spread(retryAfterOf(response.headers))
          throw new Error(`answered ${response.status}`)
        }
        for await (const event of eventsOf(response.body, connection)) {
          pause = event.retry ?? pause
          if (event.id !== undefined) {
            address.searchParams.set('lastEventId', event.id)
          }
          if (event.data !== '') {
            failures = 0
            const { as_of, totals } = JSON.parse(event.data) as { as_of: string, totals: Record<string, number> }
            const changed = new Map(Object.entries(totals).filter(([name, total]) => all.get(name) !== total))
            changed.forEach((total, name) => all.set(name, total))
            yield { totals: all, changed, asOf: new Date(as_of) }
          }
        }
      } catch (cause) {
        if (cause instanceof StreamError) {
          throw cause
        }
        error = cause instanceof Error ? cause : new Error(String(cause))
      } finally {
        connection.end()
      }
      if (ended.signal.aborted) {
        return
      }
      failures++
      wait = Math.max(wait, backoff(pause, maxPause, failures))
      options.reportRetry?.({ error, wait })
      await sleep(wait, ended.signal)
    }
  } finally {
    options.signal?.removeEventListener('abort', end)
  }
}

/** Ends a request after too long a silence. */
class Connection {
  readonly #controller = new AbortController()
  readonly #end = (): void => this.#controller.abort()
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(readonly of: AbortSignal) {
    of.addEventListener('abort', this.#end)
    this.heard()
  }

  get signal(): AbortSignal {
    return this.#controller.signal
  }

  /** Says that something has come. */
  heard(): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.#controller.abort(new Error(`silent for ${silence} ms`)), silence)
  }

  end(): void {
    clearTimeout(this.#timer)
    this.of.removeEventListener('abort', this.#end)
    this.#controller.abort()
  }
}

interface Event {
  data: string
  id?: string
  retry?: number
}

/** Yields the events of a body (WHATWG HTML, section 9.2). An event that is cut off is none. */
async function* eventsOf(body: ReadableStream<Uint8Array>, connection: Connection): AsyncGenerator<Event, void, void> {
  const reader = body.getReader() // Safari cannot iterate a body
  const decoder = new TextDecoder()
  let text = ''
  let event: Event = { data: '' }
  for (;;) {
    const { done, value } = await reader.read()
    if (done) {
      return
    }
    connection.heard()
    text += decoder.decode(value, { stream: true })
    const lines = text.split('\n') // query ends lines so
    text = lines.pop()!
    for (const line of lines) {
      const [, field, content] = /^([^:]*)(?::[ ]?(.*))?$/.exec(line) ?? []
      if (line === '') {
        if (event.data !== '' || event.retry !== undefined) {
          yield event
        }
        event = { data: '' }
      } else if (field === 'data') {
        event.data += content ?? ''
      } else if (field === 'id') {
        event.id = content ?? ''
      } else if (field === 'retry') {
        event.retry = Number(content)
      }
    }
  }
}
