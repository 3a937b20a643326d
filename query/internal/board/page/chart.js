// A chart of periods over time: axes, bars or a line, what is not known, and a cursor for pointer and keys.
//
// It is drawn by hand as SVG: its colours are those of the page in light and dark, a reader and a test find its parts, and it is
// a twentieth of a chart library.
import { drawn, node, setText } from './dom.js';
import { compact } from './format.js';
import { barsPath, gaps, linePath, steps, times } from './scale.js';

// narrow is the width of a period, in pixels, below which bars shimmer: then there is a line.
const narrow = 3;

// height of a line of text, in pixels.
const text = 12;

export class Chart {
  #host;
  #svg;
  #tip;
  #shown = null;
  #at = -1; // the period under the cursor
  #layout = null;

  // host is an empty element, whose size the chart takes.
  constructor(host) {
    this.#host = host;
    this.#svg = drawn('svg', { 'aria-hidden': 'true' });
    this.#tip = node('p', 'tip');
    this.#tip.setAttribute('role', 'status');
    this.#tip.hidden = true;
    host.classList.add('chart-box');
    host.tabIndex = 0;
    host.setAttribute('role', 'group');
    host.setAttribute('aria-roledescription', 'chart');
    host.append(this.#svg, this.#tip);
    new ResizeObserver(() => this.#draw()).observe(host);
    host.addEventListener('pointermove', (event) => this.#point(event));
    host.addEventListener('pointerdown', (event) => this.#point(event));
    host.addEventListener('pointerleave', () => this.#move(-1));
    host.addEventListener('blur', () => this.#move(-1));
    host.addEventListener('keydown', (event) => this.#key(event));
  }

  // show draws a series, or nothing. about is its label, read(i) the texts of a period, [when, how much...], until the time
  // at the right edge: between the series' as-of and that, nothing is known. total, if it is not null, makes it a chart of the
  // total, and not of the changes.
  show(series, { about, read, until, total = null } = {}) {
    this.#shown = series && { series, read, until, values: total === null ? series.values : series.cumulated(total), line: total !== null };
    if (about) this.#host.setAttribute('aria-label', `${about}. Arrow keys read the values.`);
    this.#draw();
  }

  #draw() {
    const width = this.#host.clientWidth;
    const height = this.#host.clientHeight;
    if (!this.#shown || this.#shown.series.length === 0 || width === 0) {
      this.#svg.replaceChildren();
      this.#layout = null;
      this.#move(-1);
      return;
    }
    const { series, values, line, until } = this.#shown;
    const known = values.filter((value) => value !== null);
    const most = Math.max(1, ...known);
    // A total is shown from where it was, so that its growth is seen.
    const least = line && known.length > 0 ? Math.max(0, Math.min(...known) - 0.05 * (most - Math.min(...known))) : 0;
    const top = 10;
    const bottom = text + 10;
    const plotHeight = height - top - bottom;
    const labels = steps(least, most * 1.02, Math.max(2, Math.floor(plotHeight / 34)));
    const left = Math.max(...labels.map((value) => compact(value).length)) * 7 + 12;
    const plotWidth = width - left;
    const from = series.starts[0];
    const to = Math.max(series.starts.at(-1), until ?? 0);
    const x = (time) => left + ((time - from) / (to - from)) * plotWidth;
    const y = (value) => top + plotHeight * (1 - (value - least) / Math.max(1, (most - least) * 1.06));
    const base = top + plotHeight;
    const parts = [];
    for (const value of labels) {
      parts.push(drawn('line', { class: value === 0 ? 'base' : 'rule', x1: left, x2: width, y1: y(value), y2: y(value) }));
      parts.push(drawn('text', { x: left - 8, y: y(value) + 4, 'text-anchor': 'end' }, compact(value)));
    }
    if (labels[0] !== 0) parts.push(drawn('line', { class: 'base', x1: left, x2: width, y1: base, y2: base }));
    for (const { at, text: label } of times(from, to, Math.max(2, Math.floor(plotWidth / 74)))) {
      const half = label.length * 3.2;
      const place = Math.min(Math.max(x(at), left + half - 8), width - half);
      parts.push(drawn('line', { class: 'base', x1: x(at), x2: x(at), y1: base, y2: base + 4 }));
      parts.push(drawn('text', { class: 'time', x: place, y: height - 4, 'text-anchor': 'middle' }, label));
    }
    const end = x(series.starts.at(-1)) - left;
    for (const [first, last] of gaps(values)) parts.push(this.#unknown(x(series.starts[first]), x(series.starts[last]), top, plotHeight));
    if (until > series.asOf) parts.push(this.#unknown(x(Math.max(from, series.asOf)), width, top, plotHeight));

    const step = end / values.length;
    const closed = series.closed;
    if (line || step < narrow) {
      const middle = (i) => (line ? x(Math.min(series.starts[i + 1], Math.max(series.asOf, series.starts[i]))) : (x(series.starts[i]) + x(series.starts[i + 1])) / 2);
      // The rest of a period that is open is still to come: it is no fall.
      const done = linePath(values.map((value, i) => (line || i < closed ? value : null)), middle, y, base);
      const open = linePath(values.map((value, i) => (line || i < closed - 1 ? null : value)), middle, y, base);
      parts.push(drawn('path', { class: 'area', d: done.area }), drawn('path', { class: 'line open', d: open.line }),
        drawn('path', { class: 'line', d: done.line }));
    } else {
      const bars = (begin, stop) => barsPath(values, begin, stop, end, plotHeight, Math.max(1, most * 1.06));
      parts.push(drawn('g', { transform: `translate(${left} ${top})` },
        drawn('path', { class: 'bars', d: bars(0, closed) }), drawn('path', { class: 'bars open', d: bars(closed, values.length) })));
    }
    const cursor = drawn('g', { class: 'cursor', visibility: 'hidden' },
      drawn('line', { y1: top, y2: base }), drawn('rect', { y: top, height: plotHeight }), drawn('circle', { r: 4 }));
    this.#svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
    this.#svg.replaceChildren(...parts, cursor);
    this.#layout = { x, y, left, width, line: line || step < narrow, top, plotHeight };
    this.#move(this.#at);
  }

  #unknown(from, to, y, height) {
    return drawn('rect', { class: 'unknown', x: from, y, width: Math.max(0, to - from), height });
  }

  #point(event) {
    if (!this.#layout) return;
    const at = event.clientX - this.#host.getBoundingClientRect().left;
    const { starts, length } = this.#shown.series;
    let i = -1;
    if (at >= this.#layout.left) while (i + 1 < length && this.#layout.x(starts[i + 1]) <= at) i++;
    this.#move(i >= 0 && this.#layout.x(starts[i + 1]) < at ? -1 : i);
  }

  #key(event) {
    if (!this.#layout || event.altKey || event.ctrlKey || event.metaKey) return;
    const last = this.#shown.series.length - 1;
    const now = this.#at < 0 ? last + 1 : this.#at;
    const to = { ArrowLeft: now - 1, ArrowRight: now + 1, PageUp: now - 10, PageDown: now + 10, Home: 0, End: last }[event.key];
    if (event.key === 'Escape' && this.#at >= 0) {
      event.preventDefault(); // it closes the cursor, not the dialog around
      event.stopPropagation();
      this.#move(-1);
    }
    if (to === undefined) return;
    event.preventDefault();
    this.#move(Math.max(0, Math.min(last, to)));
  }

  // move puts the cursor on a period, or nowhere.
  #move(i) {
    if (!this.#layout || i >= this.#shown.series.length) i = -1;
    this.#at = i;
    const cursor = this.#svg.querySelector('.cursor');
    cursor?.setAttribute('visibility', i < 0 ? 'hidden' : 'visible');
    this.#tip.hidden = i < 0;
    if (i < 0) return;
    const { series, values, read } = this.#shown;
    const { x, y, left, width, line, top, plotHeight } = this.#layout;
    const [from, to] = [x(series.starts[i]), x(series.starts[i + 1])];
    const middle = (from + to) / 2;
    const [rule, box, dot] = cursor.children;
    rule.setAttribute('x1', middle);
    rule.setAttribute('x2', middle);
    box.setAttribute('x', from);
    box.setAttribute('width', line ? 0 : to - from);
    dot.setAttribute('cx', middle);
    dot.setAttribute('cy', values[i] === null ? top + plotHeight : y(values[i]));
    dot.setAttribute('visibility', line && values[i] !== null ? 'inherit' : 'hidden');
    const texts = read(i);
    while (this.#tip.children.length < texts.length) this.#tip.append(node('span'));
    while (this.#tip.children.length > texts.length) this.#tip.lastChild.remove();
    texts.forEach((part, n) => setText(this.#tip.children[n], part));
    const tipWidth = this.#tip.offsetWidth;
    const place = middle + 12 + tipWidth > width ? middle - 12 - tipWidth : middle + 12;
    this.#tip.style.left = `${Math.max(left, place)}px`;
  }
}
