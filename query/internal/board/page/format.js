// Numbers, times and ages for people.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat('en', { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const short = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 });

export function number(n) {
  return whole.format(n);
}

// compact shortens a number, for axes: 12.3K.
export function compact(n) {
  return short.format(n);
}

// rate formats a number per second, or a dash while it is unknown.
export function rate(perSecond) {
  if (perSecond === null) return '–';
  if (perSecond === 0) return '0';
  if (perSecond < 0.05) return '<0.1';
  return perSecond < 9.95 ? tenth.format(perSecond) : whole.format(perSecond);
}

// age formats a duration in milliseconds.
export function age(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 9.95) return `${tenth.format(seconds)} s`;
  if (seconds < 99.5) return `${whole.format(seconds)} s`;
  if (seconds < 99.5 * 60) return `${whole.format(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${whole.format(seconds / 3600)} h`;
  return `${whole.format(seconds / 86400)} days`;
}

// ago formats the time since an event, roughly.
export function ago(ms) {
  return ms < 5000 ? 'just now' : `${age(Math.round(ms / 1000) * 1000).replace('.0', '')} ago`;
}

const clockOf = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit' });
const secondsOf = new Intl.DateTimeFormat('en-GB', { hour: '2-digit', minute: '2-digit', second: '2-digit' });
const dateOf = new Intl.DateTimeFormat('en-GB', { day: 'numeric', month: 'short' });

// clock formats a time of day, in the reader's time zone.
export function clock(time) {
  return clockOf.format(time);
}

export function clockSeconds(time) {
  return secondsOf.format(time);
}

export function date(time) {
  return dateOf.format(time);
}
