import assert from 'node:assert/strict';
import test from 'node:test';
import { Totals } from '../page/totals.js';

const names = (tags) => tags.map((t) => t.name);

test('a snapshot replaces the totals, and keeps the objects of tags that stay', () => {
  const totals = new Totals();
  totals.snapshot({ foo: 13, ballz: 76 }, 1000);
  assert.equal(totals.size, 2);
  assert.equal(totals.sum, 89);
  const foo = totals.get('foo');
  totals.snapshot({ foo: 14, bar: 1 }, 2000);
  assert.equal(totals.get('ballz'), undefined);
  assert.equal(totals.get('foo'), foo);
  assert.equal(foo.total, 14);
  assert.equal(totals.sum, 15);
});

test('the rate is unknown until enough was observed', () => {
  const totals = new Totals();
  totals.snapshot({ foo: 1000 }, 0);
  assert.equal(totals.rate(), null);
  totals.changes({ foo: 1100 }, 1000);
  assert.equal(totals.rate(), null);
  totals.changes({ foo: 1200 }, 2000);
  assert.equal(totals.rate(), 100);
  assert.equal(totals.rate(totals.get('foo')), 100);
});

test('a rate is the average of the last ten seconds', () => {
  const totals = new Totals();
  totals.snapshot({}, 0);
  let foo = 0;
  for (let second = 1; second <= 30; second++) {
    foo += second <= 15 ? 50 : 20;
    totals.changes({ foo, [second % 2 ? 'odd' : 'even']: second }, second * 1000);
  }
  assert.equal(totals.rate(totals.get('foo')), 20);
  assert.equal(totals.rate(totals.get('odd')), 1); // 21, 23... 29: ten in ten seconds
  assert.equal(totals.rate(), 22);
});

test('rates fall as far as it is known that nothing changes, and no further', () => {
  const totals = new Totals();
  totals.snapshot({ foo: 0 }, 0);
  for (let second = 1; second <= 10; second++) totals.changes({ foo: second * 10 }, second * 1000);
  assert.equal(totals.rate(), 10); // and so for as long as nothing is heard
  totals.advance(15_000);
  assert.equal(totals.rate(), 5);
  totals.advance(12_000); // an older answer
  totals.changes({ foo: 150 }, 15_000);
  assert.equal(totals.rate(), 10);
  totals.advance(60_000);
  assert.equal(totals.rate(), 0);
  assert.equal(totals.rate(totals.get('foo')), 0);
  assert.equal(totals.get('foo').total, 150);
});

test('an older answer does not turn time back', () => {
  const totals = new Totals();
  totals.snapshot({ foo: 0 }, 0);
  totals.changes({ foo: 10 }, 1000);
  totals.advance(5000);
  totals.advance(3000);
  assert.equal(totals.rate(), 2);
});

test('the order by rate follows half a minute', () => {
  const totals = new Totals();
  totals.snapshot({ foo: 0, bar: 0 }, 0);
  let foo = 0;
  let bar = 0;
  for (let second = 1; second <= 30; second++) totals.changes({ foo: foo += 10, bar: bar += 1 }, second * 1000);
  totals.changes({ bar: bar += 50 }, 31_000); // a burst
  assert.ok(totals.rate(totals.get('bar')) < totals.rate(totals.get('foo')));
  for (let second = 32; second <= 38; second++) totals.changes({ bar: bar += 1 }, second * 1000);
  assert.ok(totals.rate(totals.get('bar')) > totals.rate(totals.get('foo')));
  assert.deepEqual(names(totals.list('', 'rate', true)), ['foo', 'bar']);
  totals.advance(90_000);
  assert.equal(totals.get('foo').steady, 0);
  assert.equal(totals.get('foo').recent, 0);
});

test('active tags are those that changed, as far as is known', () => {
  const totals = new Totals();
  totals.snapshot({ foo: 1, bar: 1, ballz: 1 }, 1000);
  assert.equal(totals.active(1), 0);
  totals.touched('foo', 900);
  totals.touched('nothing', 900);
  totals.changes({ bar: 2, ballz: 1 }, 2000);
  assert.equal(totals.active(1), 2);
  assert.equal(totals.active(1000), 1);
  totals.snapshot({ foo: 1, bar: 2, ballz: 9 }, 100_000);
  assert.equal(totals.active(100_000), 1);
});

test('changes during a gap count but have no rate', () => {
  const totals = new Totals();
  totals.snapshot({ foo: 0 }, 0);
  totals.changes({ foo: 10 }, 1000);
  totals.changes({ foo: 10_000, bar: 5 }, 3000, true);
  assert.equal(totals.get('foo').total, 10_000);
  assert.equal(totals.sum, 10_005);
  assert.equal(totals.rate(), null);
  totals.changes({ foo: 10_020 }, 5000);
  assert.equal(totals.rate(), 10);
});

test('lists are sorted in every order, equals by name, and filtered by prefix', () => {
  const totals = new Totals();
  totals.snapshot({ foo: 13, food: 5, ballz: 76, fob: 5 }, 0);
  totals.changes({ foo: 14, food: 25 }, 2000);
  assert.deepEqual(names(totals.list('', 'name', false)), ['ballz', 'fob', 'foo', 'food']);
  assert.deepEqual(names(totals.list('', 'name', true)), ['food', 'foo', 'fob', 'ballz']);
  assert.deepEqual(names(totals.list('', 'total', true)), ['ballz', 'food', 'foo', 'fob']);
  assert.deepEqual(names(totals.list('', 'total', false)), ['fob', 'foo', 'food', 'ballz']);
  assert.deepEqual(names(totals.list('', 'rate', true)), ['food', 'foo', 'ballz', 'fob']);
  assert.deepEqual(names(totals.list('oo', 'name', false)), ['foo', 'food']);
  assert.deepEqual(names(totals.list('x', 'name', false)), []);
});

test('names of object properties are valid tags', () => {
  const totals = new Totals();
  totals.snapshot(JSON.parse('{"__proto__":3,"constructor":4,"foo":1}'), 0);
  assert.deepEqual(names(totals.list('', 'name', false)), ['__proto__', 'constructor', 'foo']);
  totals.changes(JSON.parse('{"__proto__":5}'), 1000);
  assert.equal(totals.get('__proto__').total, 5);
  totals.snapshot({ foo: 1 }, 2000);
  assert.equal(totals.size, 1);
});

test('sums of whole numbers do not drift', () => {
  const totals = new Totals();
  totals.snapshot({}, 0);
  let seed = 1;
  const next = (n) => (seed = (seed * 48271) % 2147483647) % n;
  const want = {};
  for (let at = 300; at < 200_000; at += 100 + next(900)) {
    const some = {};
    for (let i = 0; i < 5; i++) {
      const name = `tag_${'abcdefghij'[next(10)]}`;
      want[name] = some[name] = (want[name] ?? 0) + next(1000);
    }
    totals.changes(some, at);
  }
  for (const [name, total] of Object.entries(want)) assert.equal(totals.get(name).total, total);
  assert.equal(totals.sum, Object.values(want).reduce((a, b) => a + b, 0));
  totals.advance(300_000);
  for (const tag of totals.list('', 'name', false)) assert.equal(tag.recent, 0);
});
