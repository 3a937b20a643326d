import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'

import {
  Client, InvalidEntryError, NotCountedError, QueueFullError, RefusedError, UnknownError,
} from '../dist/index.js'

const foo = { name: 'foo', value: 4 }
const accepted = () => new Response('{"accepted":1}', { status: 202, headers: { 'Content-Type': 'application/json' } })
const refusal = (status, members = {}, headers = {}) => new Response(JSON.stringify({ status, ...members }),
  { status, headers: { 'Content-Type': 'application/problem+json', ...headers } })

/** Replaces the clock of a test: `pass(ms)` lets time pass, from timer to timer. */
function stopClock(t) {
  let now = 0
  t.mock.timers.enable({ apis: ['setTimeout'] })
  t.mock.method(performance, 'now', () => now)
  return {
    get now() {
      return now
    },
    async pass(ms) {
      for (const end = now + ms; now < end;) {
        for (let i = 0; i < 5; i++) {
          await turn()
        }
        const step = Math.min(50, end - now)
        now += step
        t.mock.timers.tick(step)
      }
      for (let i = 0; i < 5; i++) {
        await turn()
      }
    },
  }
}

test('posts full batches at once and others after the linger', async t => {
  const clock = stopClock(t)
  const sizes = []
  const client = new Client({
    url: 'http://accrue.test/counts', batch: 3, linger: 100, fetch: async (url, { body }) => {
      sizes.push(`${url} ${JSON.parse(body).increments.length}`)
      return accepted()
    },
  })
  for (let i = 0; i < 4; i++) {
    client.add(foo)
  }
  await clock.pass(50)
  assert.deepEqual(sizes, ['http://accrue.test/counts/increments/batch 3'])
  await clock.pass(100)
  assert.deepEqual(sizes, ['http://accrue.test/counts/increments/batch 3', 'http://accrue.test/counts/increments/batch 1'])
  assert.equal(client.waiting, 0)
})

test('the queue is bounded', async t => {
  const clock = stopClock(t)
  let release
  const client = new Client({ url: 'http://accrue.test', batch: 2, queue: 4, posts: 1, fetch: () => new Promise(resolve => release = () => resolve(accepted())) })
  for (let i = 0; i < 6; i++) { // two of them are posted
    client.add(foo)
  }
  assert.throws(() => client.add(foo), QueueFullError)
  let room = false
  client.room().then(() => room = true)
  await clock.pass(1000)
  assert.equal(room, false)
  release()
  await clock.pass(10)
  assert.equal(room, true)
  client.add(foo)
})

test('answers mean what they say', async t => {
  const gateway = (status, body = '', type = 'text/html') => new Response(body, { status, headers: { 'Content-Type': type } })
  for (const [title, answers, tries, error] of [
    ['counted', [accepted()], 1, undefined],
    ['overloaded, then counted', [refusal(503, { counted: 'no' }), accepted()], 2, undefined],
    ['unknown, then counted', [refusal(503, { counted: 'unknown' }), gateway(502), accepted()], 3, undefined],
    ['limited, then counted', [gateway(429), accepted()], 2, undefined],
    ['slow, then counted', [refusal(408, { counted: 'no' }), accepted()], 2, undefined],
    ['refused as a whole', [refusal(415, { counted: 'no', detail: 'not JSON' })], 1, RefusedError],
    ['refused after a lost reply', [gateway(502), refusal(415)], 2, UnknownError],
    ['a connection that ends', [new TypeError('fetch failed', { cause: Object.assign(new Error('reset'), { code: 'ECONNRESET' }) }), refusal(400)], 2, UnknownError],
    ['no connection', [new TypeError('fetch failed', { cause: Object.assign(new Error('refused'), { code: 'ECONNREFUSED' }) }), refusal(400)], 2, RefusedError],
    ['an unknown host', [new TypeError('fetch failed', { cause: Object.assign(new Error('no such host'), { code: 'ENOTFOUND' }) })], 1, NotCountedError],
    ['a browser, which does not say why', [new TypeError('Failed to fetch'), refusal(400)], 2, UnknownError],
    ['a proxy that comes right', [gateway(403), gateway(404), gateway(200), accepted()], 4, undefined],
  ]) {
    await t.test(title, async t => {
      const clock = stopClock(t)
      const outcomes = []
      let i = 0
      const client = new Client({
        url: 'http://accrue.test', report: outcome => outcomes.push(outcome), fetch: async () => {
          const answer = answers[i++] // one more would fail
          if (answer instanceof Error) {
            throw answer
          }
          return answer.clone()
        },
      })
      client.add(foo)
      const closed = client.close().then(() => undefined, e => e)
      await clock.pass(30_000)
      assert.equal(outcomes.length, 1)
      assert.equal(outcomes[0].tries, tries)
      assert.deepEqual(outcomes[0].entries, [foo])
      if (error === undefined) {
        assert.equal(outcomes[0].error, undefined)
        assert.equal(await closed, undefined)
      } else {
        assert.ok(outcomes[0].error instanceof error, String(outcomes[0].error))
        assert.equal((await closed).errors[0], outcomes[0].error)
      }
    })
  }
})

test('a foreign answer is reported after a minute', async t => {
  const clock = stopClock(t)
  const outcomes = []
  const client = new Client({ url: 'http://accrue.test', report: o => outcomes.push(o), fetch: async () => new Response('', { status: 404 }) })
  client.add(foo)
  await clock.pass(40_000)
  assert.equal(outcomes.length, 0)
  await clock.pass(30_000)
  assert.ok(outcomes[0]?.error instanceof RefusedError)
  assert.match(outcomes[0].error.message, /not an answer of Accrue/)
})

test('pauses grow, and are as long as Retry-After asks for', async t => {
  t.mock.method(Math, 'random', () => 0.5)
  const clock = stopClock(t)
  const times = []
  const waits = []
  const client = new Client({
    url: 'http://accrue.test', reportRetry: retry => waits.push(Math.round(retry.wait)), fetch: async () => {
      times.push(clock.now)
      return times.length === 4 ? refusal(503, { counted: 'no' }, { 'Retry-After': '20' }) : times.length < 6 ? refusal(503, { counted: 'no' }) : accepted()
    },
  })
  client.add(foo)
  await clock.pass(60_000)
  assert.deepEqual(waits, [100, 200, 400, 25_000, 1600]) // a half more than 20 s at most
  assert.equal(times.length, 6)
})

test('stops before the key is forgotten', async t => {
  const clock = stopClock(t)
  const outcomes = []
  let last = 0
  const client = new Client({
    url: 'http://accrue.test', horizon: 60_000, timeout: 1000, report: o => outcomes.push(o),
    fetch: async () => {
      last = clock.now
      throw new TypeError('Failed to fetch')
    },
  })
  client.add(foo)
  await clock.pass(120_000)
  assert.ok(outcomes[0].error instanceof UnknownError)
  assert.ok(last < 54_000 && last > 20_000, `the last request began after ${last} ms`)
})

test('invalid entries are not taken', () => {
  const client = new Client({ url: 'http://accrue.test', fetch: () => assert.fail('posted') })
  for (const [entry, rule] of [
    [{ name: 'fo', value: 1 }, /name must be/], [{ name: 'Foo', value: 1 }, /name must be/], [{ name: 'foo', value: 0 }, /value must be/],
    [{ name: 'foo', value: 1.5 }, /value must be/], [{ name: 'foo', value: '1' }, /value must be/], [{ name: 'foo' }, /value must be/],
    [{}, /contributor, must be given/], [{ contributor: '' }, /contributor must be/], [{ contributor: 'a\n' }, /contributor must be/],
    [{ contributor: '\ud800' }, /contributor must be/], [{ contributor: '😀'.repeat(129) }, /contributor must be/],
    [{ name: 'foo', value: 1, id: 'a b' }, /id must be/], [{ name: 'foo', value: 1, id: '' }, /id must be/],
  ]) {
    assert.throws(() => client.add(entry), error => error instanceof InvalidEntryError && rule.test(error.message), JSON.stringify(entry))
  }
  assert.equal(client.waiting, 0)
  assert.throws(() => new Client({ url: 'http://a', batch: 0, linger: -1 }), /batch must be .*; linger must be/)
})
