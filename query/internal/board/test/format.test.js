import assert from 'node:assert/strict';
import test from 'node:test';
import { age, ago, change, compact, number, rate } from '../page/format.js';

test('numbers have their thousands apart', () => {
  assert.equal(number(12345678), '12,345,678');
  assert.equal(number(999_999_999_999), '999,999,999,999');
  assert.equal(compact(12345), '12.3K');
});

test('rates are as exact as they are small', () => {
  for (const [perSecond, want] of [[null, '–'], [0, '0'], [0.01, '<0.1'], [0.1, '0.1'], [9.94, '9.9'], [9.96, '10'], [12345.6, '12,346']]) {
    assert.equal(rate(perSecond), want);
  }
});

test('changes are shares of what was before', () => {
  for (const [now, before, want] of [[110, 100, '+10%'], [99, 100, '-1%'], [100, 100, '0%'], [0, 100, '-100%'], [5, 0, 'new'], [0, 0, '–'],
    [null, 1, '–'], [1, null, '–'], [1500, 100, '×15']]) {
    assert.equal(change(now, before), want);
  }
});

test('ages are in the unit that fits', () => {
  for (const [ms, want] of [[-5, '0.0 s'], [312, '0.3 s'], [9_940, '9.9 s'], [9_960, '10 s'], [99_000, '99 s'], [120_000, '2 min'],
    [7_200_000, '2 h'], [260_000_000, '3 days']]) {
    assert.equal(age(ms), want);
  }
  assert.equal(ago(1_000), 'just now');
  assert.equal(ago(7_400), '7 s ago');
  assert.equal(ago(82_000), '1 min ago');
  assert.equal(ago(180_000), '3 min ago');
});
