// These tests use real connections. They are apart from those that stop the clock, which would stop that of fetch, too.
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { test } from 'node:test'

import { Client, ClosedError } from '../dist/index.js'
import { problem, startAccrue } from './accrue.js'

const foo = { name: 'foo', value: 4 }

test('counts exactly once though replies are lost', async t => {
  const accrue = await startAccrue(t, ({ response, count, number }) => {
    if (number % 3 !== 0) {
      return false
    }
    count() // and the reply is lost
    response.destroy()
    return true
  })
  const client = new Client({ url: accrue.url, batch: 50, queue: 200 })
  for (let i = 0; i < 5000; i++) {
    await client.room()
    client.add({ name: i % 2 === 0 ? 'foo' : 'bar', value: 1 + i % 9 })
  }
  await client.room()
  client.add({ contributor: 'ada' })
  await client.close()
  let want = 0
  for (let i = 0; i < 5000; i++) {
    want += 1 + i % 9
  }
  assert.equal(accrue.totals.get('foo') + accrue.totals.get('bar'), want)
  assert.equal(accrue.totals.get('ada'), 1)
  const bodies = new Map()
  for (const { key, body } of accrue.requests) { // a key belongs to one body
    assert.equal(bodies.get(key) ?? body, body)
    bodies.set(key, body)
  }
  assert.ok(accrue.requests.length > bodies.size, 'nothing was repeated')
})

test('the other entries of a refused batch are counted', async t => {
  const accrue = await startAccrue(t, ({ response, body }) => {
    const { increments } = JSON.parse(body)
    const errors = increments.flatMap(({ name }, i) => name === 'bad' ? [{ pointer: `#/increments/${i}/name`, detail: 'is bad' }] : [])
    if (errors.length > 0) {
      problem(response, 422, { counted: 'no', errors })
    }
    return errors.length > 0
  })
  const outcomes = []
  const client = new Client({ url: accrue.url, report: o => outcomes.push(o) })
  for (const name of ['foo', 'bad', 'foo']) {
    client.add({ name, value: 1 })
  }
  await assert.rejects(client.flush(), /1 entries: refused: 422, #\/name is bad/)
  assert.equal(accrue.totals.get('foo'), 2)
  assert.equal(accrue.requests.length, 2)
  assert.notEqual(accrue.requests[0].key, accrue.requests[1].key)
  assert.deepEqual(outcomes.map(o => [o.entries.length, o.error?.name]), [[1, 'RefusedError'], [2, undefined]])
  await client.flush() // only what failed since the last flush counts
})

test('a body that is too large is halved', async t => {
  const accrue = await startAccrue(t, ({ response, body }) => {
    const large = JSON.parse(body).increments.length > 3
    if (large) {
      problem(response, 413, { counted: 'no' })
    }
    return large
  })
  const client = new Client({ url: accrue.url })
  for (let i = 0; i < 10; i++) {
    client.add(foo)
  }
  await client.close()
  assert.equal(accrue.totals.get('foo'), 40)
})

test('a request that hangs is repeated', async t => {
  const accrue = await startAccrue(t, ({ number }) => number === 1) // is never answered
  const client = new Client({ url: accrue.url, timeout: 100 })
  client.add(foo)
  await client.close()
  assert.equal(accrue.totals.get('foo'), 4)
})

test('close gives up in time', async t => {
  const accrue = await startAccrue(t, () => true)
  const client = new Client({ url: accrue.url, posts: 1, batch: 1 })
  client.add(foo)
  client.add(foo)
  const error = await client.close(100).then(() => undefined, e => e)
  assert.deepEqual(error.errors.map(e => [e.name, e.counted]), [['UnknownError', 'unknown'], ['NotCountedError', 'no']])
  assert.throws(() => client.add(foo), ClosedError)
})

test('a real connection that is refused is not counted, and one to the wrong scheme is reported at once', async t => {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise(resolve => server.once('listening', resolve))
  const { port } = server.address()
  const wrong = new Client({ url: `https://127.0.0.1:${port}` })
  wrong.add(foo)
  await assert.rejects(wrong.flush(), /not counted: fetch failed: .*/)
  await new Promise(resolve => server.close(resolve))
  const retries = []
  const refused = new Client({ url: `http://127.0.0.1:${port}`, reportRetry: retry => retries.push(retry) })
  refused.add(foo)
  await assert.rejects(refused.close(300), /not counted: fetch failed: connect ECONNREFUSED/)
  assert.ok(retries.length > 0)
})

test('contributors arrive as they are', async t => {
  const accrue = await startAccrue(t)
  const client = new Client({ url: accrue.url })
  const ids = ['ada', '"\\/<b>', '😀'.repeat(128), 'é', 'a b', '\u2028']
  ids.forEach(contributor => client.add({ contributor }))
  await client.close()
  assert.deepEqual([...accrue.totals.keys()], ids)
  assert.equal(accrue.requests[0].path, '/contributions/batch')
})
