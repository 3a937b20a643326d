// Charts as paths of SVG. The functions that end in Path are arithmetic; the others put it into the page.

const svgNamespace = 'http://www.w3.org/2000/svg';

export function element(name, attributes = {}, ...children) {
  const e = document.createElementNS(svgNamespace, name);
  for (const [attribute, value] of Object.entries(attributes)) e.setAttribute(attribute, value);
  e.append(...children);
  return e;
}

const round = (x) => Math.round(x * 100) / 100;

// barsPath is a bar for each of the values from begin to end, in a box of a width and a height, so high that most fills
// it. A value above zero is never too low to be seen; zero has no bar.
export function barsPath(values, begin, end, width, height, most) {
  const step = width / values.length;
  const gap = step >= 3 ? 1 : step * 0.2;
  let d = '';
  for (let i = begin; i < end; i++) {
    if (values[i] <= 0) continue;
    const h = Math.max(1.5, (values[i] / most) * height);
    d += `M${round(i * step)} ${height}V${round(height - h)}h${round(step - gap)}V${height}z`;
  }
  return d;
}

// areaPath is the outline of samples from the left to the right of a box, the last at its right edge, count to the width. A
// sample that is null is a gap.
export function areaPath(samples, count, width, height, most) {
  const step = width / (count - 1);
  const x = (i) => round(width - (samples.length - 1 - i) * step);
  let line = '';
  let area = '';
  for (let i = 0; i < samples.length; i++) {
    if (samples[i] === null) continue;
    const begin = i;
    let part = '';
    for (; i < samples.length && samples[i] !== null; i++) part += `L${x(i)} ${round(height - (samples[i] / most) * height)}`;
    if (i - begin < 2) continue;
    line += `M${part.slice(1)}`;
    area += `M${part.slice(1)}L${x(i - 1)} ${height}L${x(begin)} ${height}z`;
  }
  return { line, area };
}

// ceiling is the least of 1, 2, 5, 10, 20, 50... that is not below a value: the top of an axis.
export function ceiling(value) {
  let unit = 1;
  while (unit * 10 < value) unit *= 10;
  return [1, 2, 5, 10].map((n) => n * unit).find((top) => top >= value);
}

// drawBars draws a small chart of a history, without axes. What may still change is drawn fainter.
export function drawBars(svg, history, width, height) {
  const { changes, closed } = history;
  const most = Math.max(1, ...changes);
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
  const [done, open] = svg.children.length === 2 ? svg.children : [element('path'), element('path', { class: 'open' })];
  done.setAttribute('d', barsPath(changes, 0, closed, width, height, most));
  open.setAttribute('d', barsPath(changes, closed, changes.length, width, height, most));
  if (svg.children.length !== 2) svg.replaceChildren(done, open);
}
