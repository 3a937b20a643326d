import assert from 'node:assert/strict';
import test from 'node:test';
import { setImmediate as settled } from 'node:timers/promises';
import { Stream } from '../page/stream.js';

// bench is a stream to a service that the test plays.
function bench() {
  const b = { now: 0, events: [], states: [], sources: [], opened: [], totals: {}, service: null, stats: null };
  b.stream = new Stream({
    snapshot: (totals, asOf) => { b.events.push(['snapshot', totals, asOf]); b.totals = { ...totals }; },
    changes: (totals, asOf, gap) => { b.events.push(['changes', totals, asOf, gap]); Object.assign(b.totals, totals); },
    agrees: (tag) => !tag || b.totals[tag.name] === tag.total,
    state: (state) => b.states.push(state),
  }, {
    open: (id) => {
      b.opened.push(id);
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
    totals: async (etag) => {
      b.polls = (b.polls ?? 0) + 1;
      if (!b.stats) throw new TypeError('failed to fetch');
      if (b.stats === 503) return { ok: false, status: 503 };
      const current = JSON.stringify(b.stats);
      const status = etag === current ? 304 : 200;
      b.statuses = [...b.statuses ?? [], status];
      return {
        ok: status === 200, status, json: async () => b.stats,
        headers: new Headers({ ETag: current, 'X-As-Of': new Date(b.now).toISOString(), Date: new Date(b.now + 100).toISOString() }),
      };
    },
    now: () => b.now,
  });
  b.send = async (kind, data) => {
    const event = new Event(kind);
    event.lastEventId = `${kind}-${b.now}`;
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
  await b.seconds(3);
  assert.equal(b.requests, 0);
  await b.seconds(60);
  assert.equal(b.requests, 15);
  assert.deepEqual(b.states, ['live']);
  assert.ok(b.stream.age < 5000);
});

test('a stream that has missed something in silence is opened anew', async () => {
  const b = await live();
  b.service = { name: 'foo', total: 14 };
  await b.seconds(5);
  assert.equal(b.sources.length, 1); // the stream may still send it
  await b.seconds(1);
  assert.equal(b.sources.length, 2);
  assert.equal(b.states.at(-1), 'cut');
  await b.send('open');
  await b.send('snapshot', { foo: 14 });
  assert.equal(b.states.at(-1), 'live');
});

test('a stream is not live when the service does not answer', async () => {
  const b = await live();
  b.service = null;
  await b.seconds(4);
  assert.equal(b.states.at(-1), 'cut');
  assert.equal(b.sources.length, 2);
  assert.equal(b.sources[0].readyState, 2);
});

test('a service without newer totals is late, not cut', async () => {
  const b = await live();
  b.service = 503;
  await b.seconds(7);
  assert.deepEqual(b.states, ['live']);
  await b.seconds(1);
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
  b.now += 20_000;
  await b.send('changes', { foo: 50 });
  assert.deepEqual(b.states, ['live', 'cut', 'live']);
  assert.deepEqual(b.events.at(-1), ['changes', { foo: 50 }, 20_000, true]); // after a gap
});

test('an interruption of a moment is no gap, whatever the service sends after it', async () => {
  const b = await live();
  for (const kind of ['changes', 'snapshot']) {
    await b.fail(0);
    b.now += 2000;
    await b.send('open');
    await b.send(kind, { foo: 20 });
    assert.deepEqual(b.events.at(-1), ['changes', { foo: 20 }, b.now, false]);
  }
});

test('a stream that the browser gives up is opened anew, later each time, and the totals are polled meanwhile', async () => {
  const b = await live();
  const waits = [];
  for (let i = 0; i < 6; i++) {
    await b.fail(2);
    const begun = b.now;
    while (b.sources.length === i + 1) await b.seconds(1);
    waits.push(b.now - begun);
  }
  assert.deepEqual(waits, [2000, 4000, 8000, 16_000, 30_000, 30_000]);
  assert.ok(b.polls > 40, `${b.polls} reads`);
  assert.equal(b.stream.state, 'cut'); // nothing answers
  b.stats = { foo: 77 };
  await b.seconds(2);
  assert.equal(b.stream.state, 'live');
  assert.equal(b.stream.polls, true);
  assert.deepEqual(b.events.at(-1).slice(0, 2), ['snapshot', { foo: 77 }]);
});

test('a stream that is open and says nothing, as behind a proxy that buffers, is replaced by polling', async () => {
  for (const opens of [true, false]) {
    const b = bench();
    b.stats = { foo: 13 };
    b.service = { name: 'foo', total: 13 };
    b.stream.start();
    if (opens) await b.send('open');
    await b.seconds(4);
    assert.deepEqual(b.states, []);
    await b.seconds(1);
    assert.deepEqual(b.states, ['live']);
    assert.equal(b.sources[0].readyState, 2); // its connection is free
    assert.deepEqual(b.events, [['snapshot', { foo: 13 }, 5000]]);
    await b.seconds(4);
    assert.equal(b.stream.age < 3000, true);
    assert.deepEqual(b.statuses, [200, 304, 304]); // what has not changed is not sent
    b.stats = { foo: 14 };
    await b.seconds(2);
    assert.deepEqual(b.events.at(-1), ['changes', { foo: 14 }, 11_000, false]);
    await b.seconds(54); // a minute later it is tried again
    assert.equal(b.sources.length, 2);
    assert.deepEqual(b.states, ['live']);
    await b.seconds(1);
    await b.send('open');
    await b.send('snapshot', { foo: 15 });
    assert.equal(b.stream.polls, false);
    const reads = b.polls;
    await b.seconds(3);
    assert.equal(b.polls, reads);
  }
});

test('a stream is tried again soon when the service has not answered at all', async () => {
  const b = await live();
  b.service = null;
  await b.seconds(60);
  assert.equal(b.stream.state, 'cut');
  const opened = b.sources.length;
  b.stats = { foo: 14 };
  await b.seconds(5);
  assert.equal(b.stream.state, 'live');
  assert.equal(b.sources.length, opened + 1);
});

test('a stream that begins to be swallowed is replaced by polling', async () => {
  const b = await live();
  b.stats = { foo: 14 };
  b.service = { name: 'foo', total: 14 };
  await b.seconds(6);
  await b.send('open'); // its headers pass
  await b.seconds(3);
  assert.equal(b.stream.polls, true);
  assert.deepEqual(b.events.at(-1).slice(0, 2), ['snapshot', { foo: 14 }]);
  assert.equal(b.stream.state, 'live');
});

test('a stream goes on after the event that is known', async () => {
  const b = bench();
  b.stream.start({ id: 'x-7', asOf: 0, age: 100 });
  assert.deepEqual(b.opened, ['x-7']);
  b.now += 1000;
  await b.send('changes', { foo: 14 });
  assert.deepEqual(b.events, [['changes', { foo: 14 }, 1000, false]]);
  assert.equal(b.stream.id, 'changes-1000');
});

test('what an old source says late counts for nothing', async () => {
  const b = await live();
  b.service = null;
  await b.seconds(4);
  const opened = b.sources.length;
  b.sources[0].dispatchEvent(new Event('error'));
  await b.seconds(1);
  assert.equal(b.sources.length, opened);
});
