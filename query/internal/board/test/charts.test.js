import assert from 'node:assert/strict';
import test from 'node:test';
import { areaPath, barsPath, ceiling } from '../page/charts.js';

test('bars stand on the ground, are seen if they are not zero, and fill the box', () => {
  assert.equal(barsPath([0, 50, 100, 1], 0, 4, 40, 20, 100), 'M10 20V10h9V20zM20 20V0h9V20zM30 20V18.5h9V20z');
  assert.equal(barsPath([0, 50, 100, 1], 3, 4, 40, 20, 100), 'M30 20V18.5h9V20z');
  assert.equal(barsPath([], 0, 0, 40, 20, 1), '');
});

test('an area ends at the right edge', () => {
  assert.deepEqual(areaPath([0, 10], 5, 40, 20, 10), { line: 'M30 20L40 0', area: 'M30 20L40 0L40 20L30 20z' });
  assert.deepEqual(areaPath([3], 5, 40, 20, 10), { line: '', area: '' });
});

test('an area has gaps where nothing is known, and zeros where nothing happened', () => {
  assert.deepEqual(areaPath([0, 10, null, 3, null, 0, 0], 7, 60, 20, 10),
    { line: 'M0 20L10 0M50 20L60 20', area: 'M0 20L10 0L10 20L0 20zM50 20L60 20L60 20L50 20z' });
});

test('an axis ends at a round number', () => {
  for (const [value, want] of [[1, 1], [2, 2], [3, 5], [6, 10], [10, 10], [11, 20], [99, 100], [101, 200], [2001, 5000]]) {
    assert.equal(ceiling(value), want);
  }
});
