import { type Fault, RefusedError } from './errors.js'

/**
 * What a request means for its entries: `unknown`, possibly counted, to be repeated with the same key; `uncounted`, certainly not
 * counted, to be repeated; `misdirected`, certainly not counted, and the address cannot be right; `accepted`, counted;
 * `refused`, certainly not counted, and repeating it would not help.
 */
export type Result = 'unknown' | 'uncounted' | 'misdirected' | 'accepted' | 'refused'

/** The result of one request. */
export interface Answer {
  readonly result: Result
  /** The answer is not from Accrue. */
  readonly foreign: boolean
  readonly status: number
  /** How long the answer asks to wait, in milliseconds. */
  readonly retryAfter: number
  readonly faults: readonly Fault[]
  /** Undefined only if accepted. */
  readonly error: Error | undefined
}

const maxRetryAfter = 24 * 3600 * 1000

/** A problem document (RFC 9457) of Accrue. */
interface Problem {
  readonly status?: number
  readonly detail?: string
  readonly counted?: string
  readonly errors?: readonly Fault[]
}

/** Classifies a response. Accrue answers 202 with JSON and everything else with a problem document. */
export async function read(response: Response): Promise<Answer> {
  // The status and the headers suffice if the body is cut off.
  const body = await response.text().catch(() => '')
  const status = response.type === 'opaqueredirect' ? 302 : response.status // browsers do not tell it
  const media = (response.headers.get('Content-Type') ?? '').split(';')[0]!.trim().toLowerCase()
  const common = { status, retryAfter: retryAfterOf(response.headers), faults: [] }
  if (status === 202 && media === 'application/json') {
    return { ...common, result: 'accepted', foreign: false, error: undefined }
  }
  const problem = problemOf(status, media, body)
  const detail = problem?.detail ?? ''
  const failed = (result: Result, foreign: boolean): Answer => ({
    ...common, result, foreign, error: new Error(`answered ${status}${detail && `: ${detail}`}${foreign ? ', not an answer of Accrue' : ''}`),
  })
  switch (true) {
    case problem?.counted === 'no' && (status >= 500 || status === 408):
    case status === 429: // a rate limit, of Accrue or in front of it
      return failed('uncounted', false)
    case status >= 500 || status === 408 || status === 425: // a gateway that cannot reach Accrue is an outage like any other
      return failed('unknown', false)
    case problem === undefined && status < 300:
      return failed('unknown', true)
    case problem === undefined: // a proxy that redirects or refuses does not pass the request on
      return failed('uncounted', true)
    default: {
      const faults = problem?.errors ?? []
      return { ...common, result: 'refused', foreign: false, faults, error: new RefusedError(status, detail, faults) }
    }
  }
}

function problemOf(status: number, media: string, body: string): Problem | undefined {
  if (media !== 'application/problem+json') {
    return undefined
  }
  try {
    const problem = JSON.parse(body) as Problem | null
    return problem?.status === status ? problem : undefined
  } catch {
    return undefined
  }
}

/** Returns how long an answer asks to wait, in milliseconds: a number of seconds, or until a date. */
export function retryAfterOf(headers: Headers): number {
  const value = headers.get('Retry-After') ?? ''
  const wait = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now()
  return Number.isNaN(wait) ? 0 : Math.min(maxRetryAfter, Math.max(0, wait))
}

/** Codes of connections that were not made, by Node: nothing was sent. */
const notConnected = new Set(['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'EAI_AGAIN', 'UND_ERR_CONNECT_TIMEOUT'])
/** Codes of addresses that cannot be right: an unknown host, https for an http server, a certificate that does not verify. */
const misdirected = new Set([
  'ENOTFOUND', 'ERR_SSL_WRONG_VERSION_NUMBER', 'ERR_SSL_PACKET_LENGTH_TOO_LONG', 'ERR_TLS_CERT_ALTNAME_INVALID', 'CERT_HAS_EXPIRED',
  'DEPTH_ZERO_SELF_SIGNED_CERT', 'SELF_SIGNED_CERT_IN_CHAIN', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', 'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
])

/**
 * Classifies an error of fetch. Node says why; browsers do not, and then the request may have arrived.
 *
 * @param connected whether any request was answered before: then the address was right once
 */
export function failure(error: unknown, connected: boolean): Answer {
  const common = { status: 0, retryAfter: 0, faults: [], foreign: false, error: error instanceof Error ? error : new Error(String(error)) }
  const codes = codesOf(error)
  if (codes.length > 0 && codes.every(code => misdirected.has(code))) {
    return { ...common, result: connected ? 'uncounted' : 'misdirected' }
  }
  return { ...common, result: codes.length > 0 && codes.every(code => notConnected.has(code)) ? 'uncounted' : 'unknown' }
}

/** Returns the codes of an error's causes: of several, if several addresses of a host were tried. */
function codesOf(error: unknown): string[] {
  if (!(error instanceof Error)) {
    return []
  }
  if (error instanceof AggregateError) {
    return error.errors.flatMap(codesOf)
  }
  const code = (error as { code?: unknown }).code
  return typeof code === 'string' ? [code] : codesOf(error.cause)
}
