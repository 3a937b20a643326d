import assert from 'node:assert/strict';
import test from 'node:test';
import { setImmediate as settled } from 'node:timers/promises';
import { Stream } from '../page/stream.js';

// bench is a stream to a service that the test plays.
function bench() {
  const b = { now: 0, events: [], states: [], sources: [], later: [], totals: {}, service: null };
  b.stream = new Stream({
    snapshot: (totals, asOf) => { b.events.push(['snapshot', totals, asOf]); b.totals = { ...totals }; },
    changes: (totals, asOf, gap) => { b.events.push(['changes', totals, asOf, gap]); Object.assign(b.totals, totals); },
    agrees: (tag) => !tag || b.totals[tag.name] === tag.total,
    state: (state) => b.states.push(state),
  }, {
    open: () => {
      const source = new EventTarget();
      source.readyState = 0;
      source.close = () => { source.readyState = 2; };
      b.sources.push(source);
      return source;
    },
    lastChange: async () => {
      b.requests = (b.requests ?? 0) + 1;
      if (!b.service) throw new TypeError('failed to fetch');
      if (b.service === 503) return { ok: false };
      return { ok: true, json: async () => ({ tags: [b.service], as_of: new Date(b.now).toISOString(), lag_ms: 100 }) };
    },
    now: () => b.now,
    later: (call, ms) => b.later.push([ms, call]),
  });
  b.send = async (kind, data) => {
    const event = new Event(kind);
    if (data) event.data = JSON.stringify({ as_of: new Date(b.now).toISOString(), lag_ms: 100, totals: data });
    b.sources.at(-1).dispatchEvent(event);
    await settled();
  };
  b.fail = async (readyState) => {
    b.sources.at(-1).readyState = readyState;
    await b.send('error');
  };
  b.seconds = async (n) => {
    for (; n > 0; n--) {
      b.now += 1000;
      b.stream.tick();
      await settled();
    }
  };
  return b;
}

// live is a bench on which foo is 13.
async function live() {
  const b = bench();
  b.service = { name: 'foo', total: 13 };
  b.stream.start();
  await b.send('open');
  await b.send('snapshot', { foo: 13 });
  assert.deepEqual(b.states, ['live']);
  b.requests = 0;
  return b;
}

test('a snapshot makes it live, and its age grows', async () => {
  const b = await live();
  assert.deepEqual(b.events, [['snapshot', { foo: 13 }, 0]]);
  b.now += 400;
  assert.equal(b.stream.age, 500);
  await b.send('changes', { foo: 14 });
  assert.deepEqual(b.events[1], ['changes', { foo: 14 }, 400, false]);
  assert.equal(b.stream.age, 100);
});

test('a silent stream is verified, and may be right', async () => {
  const b = await live();
  await b.seconds(5);
  assert.equal(b.requests, 0);
  await b.seconds(60);
  assert.equal(b.requests, 10);
  assert.deepEqual(b.states, ['live']);
  assert.ok(b.stream.age < 7000);
});

test('a stream that has missed something in silence is opened anew', async () => {
  const b = await live();
  b.service = { name: 'foo', total: 14 };
  await b.seconds(7);
  assert.equal(b.sources.length, 1); // the stream may still send it
  await b.seconds(2);
  assert.equal(b.sources.length, 2);
  assert.equal(b.states.at(-1), 'cut');
  await b.send('open');
  await b.send('snapshot', { foo: 14 });
  assert.equal(b.states.at(-1), 'live');
});

test('a stream is not live when the service does not answer', async () => {
  const b = await live();
  b.service = null;
  await b.seconds(6);
  assert.equal(b.states.at(-1), 'cut');
  assert.equal(b.sources.length, 2);
  assert.equal(b.sources[0].readyState, 2);
});

test('a service without newer totals is late, not cut', async () => {
  const b = await live();
  b.service = 503;
  await b.seconds(14);
  assert.deepEqual(b.states, ['live']);
  await b.seconds(2);
  assert.deepEqual(b.states, ['live', 'late']);
  await b.send('changes', { foo: 20 });
  assert.deepEqual(b.states, ['live', 'late', 'live']);
});

test('a cut stream that resumes where nothing has changed is live again', async () => {
  const b = await live();
  await b.fail(0);
  assert.deepEqual(b.states, ['live', 'cut']);
  await b.seconds(3);
  assert.equal(b.requests, 0);
  await b.send('open');
  assert.deepEqual(b.states, ['live', 'cut', 'live']);
});

test('a cut stream that opens and says nothing is not live while the service has other totals', async () => {
  const b = await live();
  await b.fail(0);
  b.service = { name: 'foo', total: 50 };
  await b.send('open');
  assert.deepEqual(b.states, ['live', 'cut']);
  await b.send('changes', { foo: 50 });
  assert.deepEqual(b.states, ['live', 'cut', 'live']);
  assert.deepEqual(b.events.at(-1), ['changes', { foo: 50 }, 0, true]); // after a gap
});

test('a stream that the browser gives up is opened anew, later each time', async () => {
  const b = await live();
  const waits = [];
  for (let i = 0; i < 6; i++) {
    await b.fail(2);
    const [ms, call] = b.later.pop();
    waits.push(ms);
    call();
  }
  assert.deepEqual(waits, [2000, 4000, 8000, 16_000, 30_000, 30_000]);
  assert.equal(b.sources.length, 7);
  await b.send('open');
  await b.fail(2);
  assert.equal(b.later.pop()[0], 2000);
});

test('what an old source says late counts for nothing', async () => {
  const b = await live();
  b.service = null;
  await b.seconds(6);
  b.sources[0].dispatchEvent(new Event('error'));
  assert.equal(b.later.length, 0);
  assert.equal(b.sources.length, 2);
});
