// The rows of the list: a tag with its last half hour, rate, total and change.
import { tagPlace } from './address.js';
import { drawn, node, read, setText } from './dom.js';
import { change, number, rate } from './format.js';
import { barsPath, gaps } from './scale.js';
import { days, Histories, query, Series } from './series.js';

// minutes is the length of a row's chart, in a box of chart's size.
const minutes = 30;
const chart = { width: 120, height: 26 };

// hours are what a change needs: two days, and the rest of an hour before.
const hours = 49;

// seldom is the shortest time between two flashes of a total: what changes all the time need not say so.
const seldom = 5_000;

const calm = matchMedia('(prefers-reduced-motion: reduce)');

export class Rows {
  #service; // {totals, rateOf, now(), live()}
  #text = '';
  #common = false;
  #most = 1; // of all rows' charts, for a common scale
  #sparks;
  #changes;

  // changed is called when the rows are to be drawn again.
  constructor(service, changed) {
    this.#service = service;
    const load = (resolution, count, of) => async (names) => {
      const body = await read(`history?${query(resolution, count, service.now())}&names=${names.join(',')}`);
      return new Map(body.tags.map((tag) => [tag.name, of(Series.parse(body, tag.changes))]));
    };
    const loaded = () => changed();
    this.#sparks = new Histories({ load: load('minute', minutes, (series) => series), loaded, now: service.now });
    this.#changes = new Histories({ load: load('hour', hours, days), loaded, now: service.now, minutes: 5 });
  }

  // seek sets the text that is marked in names, and whether all charts have one scale.
  seek(text, common) {
    this.#text = text;
    this.#common = common;
  }

  // want reads what the tags of some names need.
  want(names) {
    this.#sparks.want(names);
    this.#changes.want(names);
    this.#most = Math.max(1, ...names.map((name) => Math.max(0, ...(this.#sparks.get(name)?.values ?? []))));
  }

  make() {
    const row = node('div', 'row');
    row.setAttribute('role', 'row');
    for (const cell of ['name', 'chart', 'rate', 'total', 'change']) {
      const span = node('span', cell);
      span.setAttribute('role', 'gridcell');
      row.append(span);
    }
    const [name, spark] = row.children;
    name.append(node('a', '', node('span'), node('b'), node('span')));
    spark.append(drawn('svg', { role: 'img', 'aria-label': '', viewBox: `0 0 ${chart.width} ${chart.height}`, preserveAspectRatio: 'none' },
      drawn('path', { class: 'base' }), drawn('path', { class: 'bars' }), drawn('path', { class: 'bars open' })));
    return row;
  }

  fill(row, tag) {
    const [name, spark, perSecond, total, changed] = row.children;
    this.#fillName(name.firstChild, tag.name);
    const now = this.#service.rateOf(tag);
    setText(perSecond, rate(now));
    perSecond.classList.toggle('none', !now);
    const sum = number(tag.total);
    if (total.textContent !== sum) {
      // A row that shows another tag has moved, not changed.
      if (row.shows === tag.name) flash(tag, total);
      total.textContent = sum;
    }
    const two = this.#changes.get(tag.name);
    setText(changed, two ? change(two.now, two.before) : '');
    changed.title = two ? `${number(two.now)} in the last 24 hours, ${number(two.before)} in the 24 before` : '';
    changed.classList.toggle('less', Boolean(two && two.before > 0 && two.now < two.before));
    const series = this.#sparks.get(tag.name);
    const most = this.#common ? this.#most : Math.max(1, ...(series?.values ?? []));
    if (row.shows !== tag.name || row.series !== series || row.most !== most) {
      this.#fillSpark(spark, series, most);
      Object.assign(row, { series, most });
    }
    row.shows = tag.name;
  }

  #fillName(link, name) {
    const mark = `${this.#text} ${name}`;
    if (link.dataset.of === mark) return;
    link.dataset.of = mark;
    link.href = tagPlace(name);
    const [before, found, after] = link.children;
    const at = name.indexOf(this.#text);
    before.textContent = name.slice(0, at);
    found.textContent = this.#text;
    after.textContent = name.slice(at + this.#text.length);
  }

  #fillSpark(cell, series, most) {
    const svg = cell.firstChild;
    const [base, done, open] = svg.children;
    const { width, height } = chart;
    const values = series?.values ?? [];
    const closed = series?.closed ?? 0;
    // The base line is where something is known: a zero is not a gap.
    let line = '';
    let from = 0;
    for (const [first, end] of [...gaps(values), [values.length, values.length]]) {
      if (first > from) line += `M${(from / values.length) * width} ${height - 0.5}H${(first / values.length) * width}`;
      from = end;
    }
    base.setAttribute('d', line);
    done.setAttribute('d', barsPath(values, 0, closed, width, height - 1, most));
    open.setAttribute('d', barsPath(values, closed, values.length, width, height - 1, most));
    const about = series ? `${number(series.sum())} in ${minutes} minutes` : 'loading';
    svg.setAttribute('aria-label', about);
    cell.title = series ? `${about}, at most ${number(Math.max(0, ...values))} in one` : '';
  }
}

// flash marks a total that has just changed, unless it did so a moment ago.
function flash(tag, cell) {
  const now = performance.now();
  const before = tag.flashed ?? -Infinity;
  tag.flashed = now;
  if (calm.matches || now - before < seldom) return;
  cell.classList.toggle('changed');
  cell.classList.toggle('changed-again', !cell.classList.contains('changed'));
}
