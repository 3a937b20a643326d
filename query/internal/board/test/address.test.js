import assert from 'node:assert/strict';
import test from 'node:test';
import { name, parts, personPlace, place, tagPlace, written } from '../page/address.js';

test('an address holds what is seen, and what is usual is left out', () => {
  for (const search of ['', '?q=views', '?sort=-rate', '?sort=total', '?sort=name', '?sort=-change', '?sort=change', '?q=views&sort=-rate&range=7d&scale=common']) {
    assert.equal(written(parts(search)), search);
  }
  assert.equal(written(parts('?sort=-total')), '');
  assert.deepEqual(parts('?q=A%3Cb%3E&sort=color&range=%00'), { text: 'ab', order: { by: 'total', falling: true }, range: '\0', common: false });
});

test('a fragment names a tag or a contributor, whatever their id', () => {
  for (const id of ['ada', '<b>ada</b>', 'a/b?c#d', '100%', 'Ωmega 7', '..']) {
    assert.deepEqual(place(personPlace(id)), { person: id });
  }
  assert.deepEqual(place(tagPlace('foo')), { tag: 'foo', range: '' });
  assert.deepEqual(place(tagPlace('__proto__', '7d')), { tag: '__proto__', range: '7d' });
});

test('any other fragment is the list', () => {
  for (const hash of ['', '#', '#100%', '#%', '#%E0%A4%A', '#tag/', '#tag/%', '#tag/FOO', '#tag/a', '#person/', '#person/%', '#person/%E0%A4%A', '#x?y=%', '#tags']) {
    assert.deepEqual(place(hash), { view: 'tags' }, hash);
  }
  assert.deepEqual(place('#people'), { view: 'people' });
});

test('a name has the characters of names', () => {
  assert.equal(name('Page Views!_abcdefghijk'), 'pageviews_abcde');
});
