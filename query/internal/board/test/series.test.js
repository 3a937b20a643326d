import assert from 'node:assert/strict';
import test from 'node:test';
import { setImmediate as settled } from 'node:timers/promises';

process.env.TZ = 'Asia/Kolkata'; // before the module asks
const { days, Histories, hour, midnight, minute, query, Series, zone } = await import('../page/series.js');

const at = (time) => Date.parse(time);

test('a request asks for whole periods, the present one last', () => {
  const now = at('2026-11-23T09:30:17.5Z');
  assert.equal(`${query('minute', 30, now)}`, 'resolution=minute&from=2026-11-23T09%3A01%3A00.000Z&to=2026-11-23T09%3A31%3A00.000Z');
  assert.equal(`${query('hour', 24, now)}`, 'resolution=hour&from=2026-11-22T10%3A00%3A00.000Z&to=2026-11-23T10%3A00%3A00.000Z');
});

test('days are those of the reader, also where midnight is not at a full hour', () => {
  const now = at('2026-11-23T18:29:00Z'); // 23:59 in India
  assert.match(zone, /^Asia.(Kolkata|Calcutta)$/); // by the edition of Unicode's names
  assert.equal(midnight(now), at('2026-11-22T18:30:00Z'));
  assert.equal(midnight(now + minute), at('2026-11-23T18:30:00Z'));
  assert.equal(`${query('day', 2, now)}`,
    `resolution=day&from=2026-11-21T18%3A30%3A00.000Z&to=2026-11-23T18%3A30%3A00.000Z&time_zone=${encodeURIComponent(zone)}`);
});

const body = {
  resolution: 'minute', from: '2026-11-23T08:00:00Z', to: '2026-11-23T08:04:00Z', complete_to: '2026-11-23T08:02:00Z',
  changes: [0, 3, 12, 7], as_of: '2026-11-23T08:03:30Z', lag_ms: 312, total: 100,
};

test('a series knows what changes no more', () => {
  const series = Series.parse(body);
  assert.deepEqual([series.length, series.closed, series.sum(), series.sum(at('2026-11-23T08:02:00Z'))], [4, 2, 22, 19]);
  assert.equal(Series.parse({ ...body, complete_to: '2026-11-23T09:00:00Z' }).closed, 4);
  assert.equal(Series.parse({ ...body, complete_to: '2026-11-23T07:00:00Z' }).closed, 0);
  assert.equal(Series.parse({ ...body, resolution: 'hour', to: '2026-11-23T12:00:00Z' }).starts[1], at('2026-11-23T09:00:00Z'));
  const days = Series.parse({ ...body, resolution: 'day', starts: ['2026-10-24T22:00:00Z', '2026-10-25T23:00:00Z'], changes: [1, 2], to: '2026-10-26T23:00:00Z' });
  assert.deepEqual(days.starts, [at('2026-10-24T22:00:00Z'), at('2026-10-25T23:00:00Z'), at('2026-10-26T23:00:00Z')]);
});

test('periods are grouped at round times, and what is not known is not zero', () => {
  const series = Series.parse({ ...body, from: '2026-11-23T08:09:00Z', to: '2026-11-23T08:31:00Z', changes: [5, ...new Array(10).fill(1), ...new Array(10).fill(null), 7] });
  const groups = series.grouped(10);
  assert.deepEqual(groups.values, [10, null, 7]);
  assert.deepEqual(groups.starts.map((start) => new Date(start).getUTCMinutes()), [10, 20, 30, 40]);
});

test('a series and the total agree at every moment', () => {
  const series = Series.parse(body);
  series.advance(104, at('2026-11-23T08:03:40Z'));
  assert.deepEqual(series.values, [0, 3, 12, 11]);
  series.advance(103, at('2026-11-23T08:03:35Z')); // the stream is behind the answer
  assert.deepEqual(series.values, [0, 3, 12, 11]);
  series.advance(110, at('2026-11-23T08:05:10Z'));
  assert.deepEqual(series.values, [0, 3, 12, 11, 0, 6]);
  assert.equal(series.sum() - Series.parse(body).sum(), 110 - 100);
  assert.equal(series.starts.at(-1), at('2026-11-23T08:06:00Z'));
  assert.deepEqual(series.cumulated(110), [78, 81, 93, 104, 104, 110]);
});

test('an answer without a total agrees with the total that is known when it comes', () => {
  const series = Series.parse({ ...body, total: undefined });
  series.advance(104, at('2026-11-23T08:03:40Z'));
  series.advance(105, at('2026-11-23T08:03:41Z'));
  assert.deepEqual(series.values, [0, 3, 12, 8]);
});

test('a later answer replaces what may have changed', () => {
  const later = Series.parse({ ...body, from: '2026-11-23T08:02:00Z', to: '2026-11-23T08:06:00Z', changes: [13, 9, 4, 1] });
  const merged = Series.parse(body).merge(later, 5);
  assert.deepEqual(merged.values, [3, 13, 9, 4, 1]);
  assert.equal(merged.starts[0], at('2026-11-23T08:01:00Z'));
  const next = Series.parse({ ...body, from: '2026-11-23T08:04:00Z', to: '2026-11-23T08:05:00Z', changes: [2] });
  assert.deepEqual(Series.parse(body).merge(next, 10).values, [0, 3, 12, 7, 2]);
});

test('two days are compared until the same time', () => {
  // 49 hours of 10 each, half of the present hour gone: both windows are of 24 hours.
  const changes = new Array(49).fill(10);
  changes[48] = 5;
  const series = Series.parse({
    resolution: 'hour', from: '2026-11-21T08:00:00Z', to: '2026-11-23T09:00:00Z', complete_to: '2026-11-23T08:00:00Z', changes, as_of: '2026-11-23T08:30:00Z',
  });
  assert.deepEqual(days(series), { now: 240, before: 240 });
  assert.equal(series.starts[48], at('2026-11-23T08:00:00Z'));
  assert.equal(hour, 60 * minute);
});

// bench is a Histories whose answers come when the test says so, at a time that the test says.
function bench(options = {}) {
  const b = { now: 1_000 * 60_000 + 32_000, requests: [], waiting: [], loaded: 0 };
  b.histories = new Histories({
    load: (names) => new Promise((resolve, reject) => {
      b.requests.push(names.join());
      b.waiting.push({ names, resolve, reject });
    }),
    loaded: () => b.loaded++,
    now: () => b.now,
    atOnce: 3,
    ...options,
  });
  b.answer = async () => {
    const { names, resolve } = b.waiting.shift();
    resolve(new Map(names.map((name) => [name, `of ${name}`])));
    await settled();
  };
  b.fail = async () => {
    b.waiting.shift().reject(new Error('out of cheese'));
    await settled();
  };
  return b;
}

test('many tags are read in one request, one request at a time', async () => {
  const b = bench();
  b.histories.want(['a', 'b', 'c', 'd', 'e']);
  b.histories.want(['a', 'b', 'c', 'd', 'e']);
  assert.deepEqual(b.requests, ['a,b,c']);
  await b.answer();
  assert.deepEqual(b.requests, ['a,b,c', 'd,e']);
  assert.equal(b.histories.get('b'), 'of b');
  assert.equal(b.histories.get('d'), undefined);
  await b.answer();
  assert.equal(b.loaded, 2);
});

test('tags that are no longer wanted are not read', async () => {
  const b = bench();
  b.histories.want(['a', 'b', 'c', 'd', 'e']);
  b.histories.want(['x']);
  await b.answer();
  assert.deepEqual(b.requests, ['a,b,c', 'x']);
});

test('a history is read again once its next minute is closed', async () => {
  const b = bench();
  b.histories.want(['a']);
  await b.answer();
  b.now += 44_000; // :16 of the next minute
  b.histories.want(['a']);
  assert.equal(b.requests.length, 1);
  b.now += 1_000;
  b.histories.want(['a']);
  assert.equal(b.requests.length, 2);
  assert.equal(b.histories.get('a'), 'of a'); // meanwhile
});

test('one that failed is tried again later, and what was there stays', async () => {
  const b = bench();
  b.histories.want(['a']);
  await b.answer();
  b.now += 60_000;
  b.histories.want(['a']);
  await b.fail();
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
  await b.answer();
  assert.deepEqual(['a', 'b', 'c'].map((name) => b.histories.get(name)), [undefined, 'of b', 'of c']);
});
