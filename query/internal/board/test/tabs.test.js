import assert from 'node:assert/strict';
import test from 'node:test';
import { setImmediate as settled } from 'node:timers/promises';

// A browser's own objects are not needed by the tests, but named by the module.
globalThis.navigator ??= {};
const { Tabs } = await import('../page/tabs.js');

// browser is the locks and channels of a browser, with the specification's order, and streams that the test plays.
function browser() {
  const b = { now: 0, tabs: [], channels: new Set(), streams: [] };
  let holder = null;
  let queue = [];
  const grant = () => {
    if (holder || queue.length === 0) return;
    const next = queue.shift();
    holder = next;
    Promise.resolve(next.call({})).then(() => {
      if (holder === next) holder = null;
      next.resolve();
      grant();
    });
  };
  b.locks = {
    request: (name, { signal, steal }, call) => new Promise((resolve, reject) => {
      const entry = { call, resolve, reject };
      signal?.addEventListener('abort', () => {
        if (!queue.includes(entry)) return;
        queue = queue.filter((other) => other !== entry);
        reject(new DOMException('withdrawn', 'AbortError'));
      });
      if (steal) {
        holder?.reject(new DOMException('stolen', 'AbortError'));
        holder = null;
        queue.unshift(entry);
      } else {
        queue.push(entry);
      }
      queueMicrotask(grant);
    }),
  };
  b.open = () => {
    const tab = { events: [], states: [], totals: null, timers: new Map() };
    tab.shared = new Tabs({
      snapshot: (totals, asOf) => { tab.totals = { ...totals }; tab.events.push(['snapshot', asOf]); },
      changes: (totals, asOf) => { Object.assign(tab.totals, totals); tab.events.push(['changes', asOf]); },
      agrees: () => true,
      all: () => tab.totals,
      state: (state) => tab.states.push(state),
    }, {
      locks: b.locks,
      lock: 'one',
      channel: () => {
        const channel = {
          postMessage: (data) => {
            const copy = structuredClone(data);
            for (const other of b.channels) if (other !== channel) queueMicrotask(() => b.channels.has(other) && other.onmessage({ data: copy }));
          },
          close: () => b.channels.delete(channel),
        };
        b.channels.add(channel);
        return channel;
      },
      stream: (on) => {
        const stream = {
          on, state: 'connecting', polls: false, asOf: null, id: '', at: 0,
          get age() { return this.asOf === null ? null : 100 + b.now - this.at; },
          start(known) { this.known = known; this.open = true; },
          stop() { this.open = false; },
          tick() { this.ticks = (this.ticks ?? 0) + 1; },
          send(kind, totals) {
            Object.assign(this, { asOf: b.now, at: b.now, id: `id-${b.now}` });
            on[kind](totals, b.now, false);
            if (this.state !== 'live') { this.state = 'live'; on.state('live'); }
          },
        };
        b.streams.push(stream);
        return stream;
      },
      now: () => b.now,
      later: (call) => { tab.rest = call; return 1; },
      cancel: () => { tab.rest = null; },
      random: () => 0.5,
    });
    tab.shared.visible(true);
    b.tabs.push(tab);
    return tab;
  };
  b.seconds = async (n, tabs = b.tabs) => {
    for (; n > 0; n--) {
      b.now += 1000;
      for (const tab of tabs) tab.shared.tick();
      await settled();
    }
  };
  return b;
}

test('seven tabs have one stream, and all show its totals', async () => {
  const b = browser();
  for (let i = 0; i < 3; i++) b.open();
  await settled();
  b.streams[0].send('snapshot', { foo: 13 });
  await settled();
  for (let i = 0; i < 4; i++) b.open(); // which come later
  await settled();
  b.streams[0].send('changes', { foo: 14 });
  await settled();
  assert.equal(b.streams.length, 1);
  for (const tab of b.tabs) {
    assert.deepEqual(tab.totals, { foo: 14 });
    assert.equal(tab.shared.state, 'live');
    assert.equal(tab.shared.age, 100);
  }
  await b.seconds(60);
  assert.equal(b.streams.length, 1);
});

test('another tab goes on after the last event when the one with the stream is closed or hidden', async () => {
  const b = browser();
  const [first, second] = [b.open(), b.open()];
  await settled();
  b.streams[0].send('snapshot', { foo: 13 });
  await settled();
  first.shared.visible(false);
  first.rest();
  await settled();
  assert.equal(b.streams[0].open, false);
  assert.equal(b.streams.length, 2);
  assert.deepEqual(b.streams[1].known, { id: 'id-0', asOf: 0, age: 100 });
  assert.equal(second.shared.leads, true);
  b.streams[1].send('changes', { foo: 15 });
  await settled();
  assert.deepEqual(second.totals, { foo: 15 });
  assert.deepEqual(first.totals, { foo: 13 }); // nobody sees it
  first.shared.visible(true);
  await settled();
  assert.deepEqual(first.totals, { foo: 15 });
  assert.equal(first.shared.leads, false);
});

test('no tab has a stream while none is seen', async () => {
  const b = browser();
  const tabs = [b.open(), b.open()];
  await settled();
  for (const tab of tabs) {
    tab.shared.visible(false);
    tab.rest();
    await settled();
  }
  assert.ok(b.streams.every((stream) => !stream.open));
  assert.equal(b.channels.size, 0);
  tabs[1].shared.visible(true);
  await settled();
  assert.equal(b.streams.at(-1).open, true);
});

test('a tab that is hidden for a moment keeps its stream', async () => {
  const b = browser();
  const tab = b.open();
  await settled();
  tab.shared.visible(false);
  tab.shared.visible(true);
  assert.equal(tab.rest, null);
  assert.equal(b.streams.length, 1);
  assert.equal(b.streams[0].open, true);
});

test('a tab that is frozen with the stream loses it', async () => {
  const b = browser();
  const [frozen, other, third] = [b.open(), b.open(), b.open()];
  await settled();
  b.streams[0].send('snapshot', { foo: 13 });
  await settled();
  await b.seconds(8, [other, third]);
  assert.equal(b.streams.filter((stream) => stream.open).length, 1);
  assert.equal(frozen.shared.leads, false);
  assert.notEqual(other.shared.leads, third.shared.leads);
  b.streams.at(-1).send('changes', { foo: 14 });
  await settled();
  for (const tab of b.tabs) assert.deepEqual(tab.totals, { foo: 14 });
});

test('a tab that hears nothing new says that its totals are old', async () => {
  const b = browser();
  const [, other] = [b.open(), b.open()];
  await settled();
  b.streams[0].send('snapshot', { foo: 13 });
  await b.seconds(9);
  assert.deepEqual(other.states, ['live', 'late']);
});
