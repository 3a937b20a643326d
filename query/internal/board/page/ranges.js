// The ranges of charts.
import { clock, date, day } from './format.js';

// Each range shows count periods of a resolution, of which group make one.
export const ranges = {
  '30m': { resolution: 'minute', count: 30, group: 1, name: '30 minutes', unit: 'by the minute' },
  '3h': { resolution: 'minute', count: 180, group: 1, name: '3 hours', unit: 'by the minute' },
  '24h': { resolution: 'minute', count: 1440, group: 10, name: '24 hours', unit: 'by ten minutes' },
  '7d': { resolution: 'hour', count: 168, group: 1, name: '7 days', unit: 'by the hour' },
  '30d': { resolution: 'day', count: 30, group: 1, name: '30 days', unit: 'by the day' },
};

// period names a period of a range, from one time to another.
export function period(range, from, to) {
  const { resolution, group } = ranges[range];
  if (resolution === 'day') return day(from);
  if (resolution === 'hour') return `${day(from)}, ${clock(from)}–${clock(to)}`;
  const at = group > 1 ? `${clock(from)}–${clock(to)}` : clock(from);
  return range === '24h' ? `${date(from)}, ${at}` : at;
}

// choices makes the choice of a range, one of keys, as radio buttons with a name in a fieldset; choose is called with another one.
export function choices(fieldset, name, keys, chosen, choose) {
  for (const key of keys) {
    const label = document.createElement('label');
    const input = document.createElement('input');
    Object.assign(input, { type: 'radio', name, value: key, checked: key === chosen });
    input.addEventListener('change', () => choose(key));
    const text = document.createElement('span');
    text.textContent = ranges[key].name;
    label.append(input, text);
    fieldset.append(label);
  }
  return (key) => {
    for (const input of fieldset.querySelectorAll('input')) input.checked = input.value === key;
  };
}
