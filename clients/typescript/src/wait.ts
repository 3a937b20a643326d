/** Returns after some milliseconds, or when the signal is aborted. */
export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    if (signal.aborted) {
      resolve()
      return
    }
    const end = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', end)
      resolve()
    }
    const timer = setTimeout(end, Math.min(ms, 2 ** 31 - 1))
    signal.addEventListener('abort', end)
  })
}

/** Makes a pause longer by a random part, up to a half, so that clients that were all given it do not return together. */
export function spread(ms: number): number {
  return ms * (1 + Math.random() / 2)
}

/** Returns the pause before a retry: it doubles from first to most, and is randomized by a half in both directions. */
export function backoff(first: number, most: number, tries: number): number {
  return Math.min(most, first * 2 ** Math.min(tries - 1, 30)) * (0.5 + Math.random())
}
