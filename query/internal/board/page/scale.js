// The arithmetic of charts: axes, and values as paths of SVG.
import { midnight, minute, hour } from './series.js';
import { clock, date } from './format.js';

const round = (x) => Math.round(x * 100) / 100;

// barsPath is a bar for each of the values from begin to end that is not null, in a box of a width and a height, so high that
// most fills it. A value above zero is never too low to be seen; zero has no bar.
export function barsPath(values, begin, end, width, height, most) {
  const step = width / values.length;
  const gap = step >= 3 ? Math.min(4, Math.max(1, step * 0.15)) : step * 0.2;
  let d = '';
  for (let i = begin; i < end; i++) {
    if (!(values[i] > 0)) continue;
    const h = Math.max(1.5, (values[i] / most) * height);
    d += `M${round(i * step)} ${round(height)}V${round(height - h)}h${round(step - gap)}V${round(height)}z`;
  }
  return d;
}

// linePath is the line through the values and the area below it. Null is a gap: what is not known is not drawn, zero is.
export function linePath(values, x, y, base) {
  let line = '';
  let area = '';
  for (let i = 0; i < values.length; i++) {
    if (values[i] === null) continue;
    const begin = i;
    let part = '';
    for (; i < values.length && values[i] !== null; i++) part += `L${round(x(i))} ${round(y(values[i]))}`;
    if (i - begin < 2) part += `h0.01`; // a lone value is a dot
    line += `M${part.slice(1)}`;
    area += `M${part.slice(1)}V${round(base)}H${round(x(begin))}z`;
  }
  return { line, area };
}

// gaps returns the runs of values that are null, as [first, end].
export function gaps(values) {
  const runs = [];
  for (let i = 0; i < values.length; i++) {
    if (values[i] !== null) continue;
    const first = i;
    while (i < values.length && values[i] === null) i++;
    runs.push([first, i]);
  }
  return runs;
}

// steps returns the values of an axis from low to high: at most count, multiples of 1, 2, 2.5 or 5 times a power of ten, and whole.
export function steps(low, high, count) {
  let unit = 1;
  while (unit * 10 * count < high - low) unit *= 10;
  const step = [1, 2, 2.5, 5, 10, 20, 25, 50, 100].map((n) => n * unit)
    .find((n) => Number.isInteger(n) && Math.floor(high / n) - Math.ceil(low / n) + 1 <= count) ?? 100 * unit;
  const all = [];
  for (let at = Math.ceil(low / step) * step; at <= high; at += step) all.push(at);
  return all;
}

const minutesApart = [1, 2, 5, 10, 15, 30, 60, 120, 180, 240, 360, 720];
const daysApart = [1, 2, 3, 5, 7, 10, 14];

// times returns the times of an axis, {at, text}: at most count of them, at round times of the reader's day, whatever the time
// zone and wherever the periods begin. The first of a day has its date.
export function times(from, to, count) {
  const apart = minutesApart.find((n) => (to - from) / (n * minute) <= count + 0.2);
  const all = [];
  if (apart && to - from <= 48 * hour) {
    const first = new Date(midnight(from));
    for (let n = 0; ; n++) { // hours and minutes of the wall clock: summer time begins and ends
      const at = new Date(first.getFullYear(), first.getMonth(), first.getDate(), 0, n * apart).getTime();
      if (at >= to) break;
      if (at < from || at === all.at(-1)?.at) continue;
      all.push({ at, text: at === midnight(at) ? date(at) : clock(at) });
    }
    return all;
  }
  const days = daysApart.find((n) => (to - from) / (n * 24 * hour) <= count + 0.2) ?? 30;
  for (let n = 0; ; n += days) {
    const at = midnight(from, n);
    if (at >= to) break;
    if (at >= from) all.push({ at, text: date(at) });
  }
  return all;
}
