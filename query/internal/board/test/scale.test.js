import assert from 'node:assert/strict';
import test from 'node:test';

process.env.TZ = 'Asia/Kolkata'; // before the module asks
const { barsPath, gaps, linePath, steps, times } = await import('../page/scale.js');

test('bars stand on the ground, are seen if they are not zero, and fill the box', () => {
  assert.equal(barsPath([0, 50, 100, 1, null], 0, 5, 50, 20, 100), 'M10 20V10h8.5V20zM20 20V0h8.5V20zM30 20V18.5h8.5V20z');
  assert.equal(barsPath([0, 50, 100, 1], 3, 4, 40, 20, 100), 'M30 20V18.5h8.5V20z');
  assert.equal(barsPath([], 0, 0, 40, 20, 1), '');
});

test('a line has gaps where nothing is known, and zeros where nothing happened', () => {
  const x = (i) => i * 10;
  const y = (value) => 20 - value;
  assert.deepEqual(linePath([0, 10, null, 0, 0], x, y, 20), { line: 'M0 20L10 10M30 20L40 20', area: 'M0 20L10 10V20H0zM30 20L40 20V20H30z' });
  assert.equal(linePath([null, 3, null], x, y, 20).line, 'M10 17h0.01');
  assert.deepEqual(gaps([null, null, 0, 1, null]), [[0, 2], [4, 5]]);
  assert.deepEqual(gaps([0, 1]), []);
});

test('an axis has few, round and whole values', () => {
  assert.deepEqual(steps(0, 1, 5), [0, 1]);
  assert.deepEqual(steps(0, 7, 5), [0, 2, 4, 6]);
  assert.deepEqual(steps(0, 62_000, 5), [0, 20_000, 40_000, 60_000]);
  assert.deepEqual(steps(980, 1010, 4), [980, 990, 1000, 1010]);
  assert.equal(steps(999_999_000_000, 1e12, 4).length > 1, true);
  for (let high = 1; high < 1e13; high = high * 3 + 1) {
    const all = steps(0, high, 5);
    assert.ok(all.length >= 2 && all.length <= 5 && all.every(Number.isInteger), `${high}: ${all}`);
  }
});

test('times are round in the time zone of the reader, and days have dates', () => {
  const from = Date.parse('2026-11-20T10:00:00Z'); // hours begin at half past in India
  const week = times(from, from + 168 * 3_600_000, 8);
  assert.deepEqual(week.map(({ text }) => text), ['Nov 21', 'Nov 22', 'Nov 23', 'Nov 24', 'Nov 25', 'Nov 26', 'Nov 27']);
  assert.equal(week[0].at, Date.parse('2026-11-20T18:30:00Z'));
  const day = times(from, from + 24 * 3_600_000, 4);
  assert.deepEqual(day.map(({ text }) => text.replaceAll(' ', ' ')), ['6:00 PM', 'Nov 21', '6:00 AM', '12:00 PM']);
  const half = times(from, from + 30 * 60_000, 6);
  assert.deepEqual(half.map(({ at }) => (at - from) / 60_000), [0, 5, 10, 15, 20, 25]);
  for (const [length, count] of [[5, 2], [180, 3], [1440, 2], [43_200, 5], [43_200, 30]]) {
    const all = times(from, from + length * 60_000, count);
    assert.ok(all.length > 0 && all.length <= count + 1, `${length} minutes: ${all.length} of ${count}`);
  }
});
