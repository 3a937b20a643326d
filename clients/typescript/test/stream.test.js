import assert from 'node:assert/strict'
import { test } from 'node:test'

import { StreamError, totals } from '../dist/index.js'

const encoder = new TextEncoder()
const event = (id, kind, of) => `event: ${kind}\nid: ${id}\ndata: {"as_of":"2026-11-23T08:01:44.133Z","lag_ms":1,"totals":${JSON.stringify(of)}}\n\n`

/** Returns a fetch whose answers are given, each as the pieces of its body, and the addresses that it is asked for. */
function serve(...answers) {
  const asked = []
  const get = async (url, { signal }) => {
    asked.push(String(url))
    const answer = answers.shift()
    if (answer === undefined) {
      return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    }
    if (answer instanceof Response) {
      return answer
    }
    const body = new ReadableStream({
      start(controller) {
        answer.forEach(piece => controller.enqueue(encoder.encode(piece)))
        controller.close()
      },
    })
    return new Response(body, { headers: { 'Content-Type': 'text/event-stream' } })
  }
  return { get, asked }
}

test('totals come, change, and go on after a cut', async () => {
  const first = `retry: 1\n\n${event('a-1', 'snapshot', { foo: 13, bar: 1 })}: as of now\n\n`
  const { get, asked } = serve(
    [...first, 'event: changes\nid: a-2\nda'], // in pieces of a byte, and cut off
    [event('a-2', 'changes', { foo: 14 }), event('b-1', 'snapshot', { foo: 14, bar: 2, new: 1 })],
  )
  const seen = []
  const retries = []
  for await (const { totals: all, changed, asOf } of totals({ url: 'http://accrue.test/counts/', fetch: get, reportRetry: r => retries.push(r) })) {
    seen.push([Object.fromEntries(all), Object.fromEntries(changed), asOf.toISOString()])
    if (seen.length === 3) {
      break
    }
  }
  const at = '2026-11-23T08:01:44.133Z'
  assert.deepEqual(seen, [
    [{ foo: 13, bar: 1 }, { foo: 13, bar: 1 }, at], [{ foo: 14, bar: 1 }, { foo: 14 }, at], [{ foo: 14, bar: 2, new: 1 }, { bar: 2, new: 1 }, at],
  ])
  assert.deepEqual(asked, ['http://accrue.test/counts/stats/stream', 'http://accrue.test/counts/stats/stream?lastEventId=a-1'])
  assert.match(retries[0].error.message, /ended/)
})

test('a full query is asked again after Retry-After', async t => {
  t.mock.method(Math, 'random', () => 0)
  const { get } = serve(new Response('', { status: 503, headers: { 'Retry-After': '0' } }), [event('a-1', 'snapshot', { foo: 1 })])
  const waits = []
  for await (const { totals: all } of totals({ url: 'http://accrue.test', fetch: get, reportRetry: r => waits.push(r.wait) })) {
    assert.equal(all.get('foo'), 1)
    break
  }
  assert.deepEqual(waits, [1000]) // half of the usual 2 s
})

test('a wrong request is an error', async () => {
  const { get } = serve(new Response('no such path', { status: 404 }))
  await assert.rejects(totals({ url: 'http://accrue.test', fetch: get }).next(), error => error instanceof StreamError && error.status === 404)
})

test('a signal ends the loop', async () => {
  const { get } = serve(['retry: 1\n\n', event('a-1', 'snapshot', { foo: 1 })])
  const stop = new AbortController()
  let n = 0
  for await (const _ of totals({ url: 'http://accrue.test', fetch: get, signal: stop.signal })) {
    n++
    setTimeout(() => stop.abort(), 20)
  }
  assert.equal(n, 1)
  for await (const _ of totals({ url: 'http://accrue.test', fetch: get, signal: stop.signal })) {
    assert.fail('yielded after the end')
  }
})
