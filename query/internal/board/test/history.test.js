import assert from 'node:assert/strict';
import test from 'node:test';
import { setImmediate as settled } from 'node:timers/promises';
import { Histories, parse, path } from '../page/history.js';

test('a path asks for whole periods, the present one last', () => {
  const now = Date.parse('2026-11-23T09:30:17.5Z');
  assert.equal(path('foo', 'minute', 30, now),
    'tags/foo/history?resolution=minute&from=2026-11-23T09%3A01%3A00.000Z&to=2026-11-23T09%3A31%3A00.000Z');
  assert.equal(path('foo', 'hour', 24, now),
    'tags/foo/history?resolution=hour&from=2026-11-22T10%3A00%3A00.000Z&to=2026-11-23T10%3A00%3A00.000Z');
  assert.equal(path('foo', 'minute', 60, now, 5),
    'tags/foo/history?resolution=minute&from=2026-11-23T08%3A35%3A00.000Z&to=2026-11-23T09%3A35%3A00.000Z');
});

test('a history knows what changes no more', () => {
  const body = {
    name: 'foo', resolution: 'minute', from: '2026-11-23T08:00:00Z', to: '2026-11-23T08:04:00Z',
    complete_to: '2026-11-23T08:03:00Z', changes: [0, 3, 12, 7], as_of: '2026-11-23T08:03:30Z', lag_ms: 312,
  };
  assert.deepEqual(parse(body), { from: Date.parse(body.from), period: 60_000, changes: body.changes, closed: 3 });
  assert.equal(parse({ ...body, complete_to: '2026-11-23T09:00:00Z' }).closed, 4);
  assert.equal(parse({ ...body, complete_to: '2026-11-23T07:00:00Z' }).closed, 0);
  assert.equal(parse({ ...body, resolution: 'hour' }).period, 3_600_000);
  assert.deepEqual(parse(body, 3), { from: Date.parse(body.from), period: 180_000, changes: [15, 7], closed: 1 });
  assert.deepEqual(parse({ ...body, changes: [] }), { from: Date.parse(body.from), period: 60_000, changes: [], closed: 0 });
});

// bench is a Histories whose answers come when the test says so, at a time that the test says.
function bench(options = {}) {
  const b = { now: 1_000 * 60_000 + 32_000, requests: [], waiting: new Map(), loaded: [] };
  b.histories = new Histories({
    load: (name) => new Promise((resolve, reject) => {
      b.requests.push(name);
      b.waiting.set(name, { resolve, reject });
    }),
    loaded: (name) => b.loaded.push(name),
    now: () => b.now,
    atOnce: 3,
    ...options,
  });
  b.answer = async (name) => {
    b.waiting.get(name).resolve(`of ${name}`);
    await settled();
  };
  b.fail = async (name) => {
    b.waiting.get(name).reject(new Error('out of cheese'));
    await settled();
  };
  return b;
}

test('few requests are concurrent, in the order wanted', async () => {
  const b = bench();
  b.histories.want(['a', 'b', 'c', 'd', 'e']);
  b.histories.want(['a', 'b', 'c', 'd', 'e']);
  assert.deepEqual(b.requests, ['a', 'b', 'c']);
  await b.answer('b');
  assert.deepEqual(b.requests, ['a', 'b', 'c', 'd']);
  assert.equal(b.histories.get('b'), 'of b');
  assert.equal(b.histories.get('a'), undefined);
  assert.deepEqual(b.loaded, ['b']);
});

test('histories that are no longer wanted are not requested', async () => {
  const b = bench();
  b.histories.want(['a', 'b', 'c', 'd', 'e']);
  b.histories.want(['x']);
  await b.answer('a');
  assert.deepEqual(b.requests, ['a', 'b', 'c', 'x']);
});

test('a history is requested again once its next minute is closed', async () => {
  const b = bench();
  b.histories.want(['a']);
  await b.answer('a');
  b.now += 44_000; // :16 of the next minute
  b.histories.want(['a']);
  assert.deepEqual(b.requests, ['a']);
  b.now += 1_000;
  b.histories.want(['a']);
  assert.deepEqual(b.requests, ['a', 'a']);
  assert.equal(b.histories.get('a'), 'of a'); // meanwhile
});

test('one that failed is tried again later, and what was there stays', async () => {
  const b = bench();
  b.histories.want(['a']);
  await b.answer('a');
  b.now += 60_000;
  b.histories.want(['a']);
  await b.fail('a');
  assert.equal(b.histories.get('a'), 'of a');
  b.histories.want(['a']);
  assert.equal(b.requests.length, 2);
  b.now += 15_000;
  b.histories.want(['a']);
  assert.equal(b.requests.length, 3);
});

test('what was read longest ago is forgotten', async () => {
  const b = bench({ keep: 2 });
  b.histories.want(['a', 'b', 'c']);
  for (const name of ['a', 'b', 'c']) await b.answer(name);
  assert.deepEqual(['a', 'b', 'c'].map((name) => b.histories.get(name)), [undefined, 'of b', 'of c']);
});
