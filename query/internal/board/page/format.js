// Numbers, times and ages for people, as is usual where the reader is.

const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat(undefined, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const short = new Intl.NumberFormat(undefined, { notation: 'compact', maximumFractionDigits: 1 });
const share = new Intl.NumberFormat(undefined, { style: 'percent', maximumFractionDigits: 0, signDisplay: 'exceptZero' });
const shareTenth = new Intl.NumberFormat(undefined, { style: 'percent', maximumFractionDigits: 1, signDisplay: 'exceptZero' });

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
  if (perSecond < 0.05) return `<${tenth.format(0.1)}`;
  return perSecond < 9.95 ? tenth.format(perSecond) : whole.format(perSecond);
}

// change formats how much more there is than before: a share, "new" if there was nothing, or a dash while it is unknown.
export function change(now, before) {
  if (now === null || before === null) return '–';
  if (before <= 0) return now > 0 ? 'new' : '–';
  const ratio = now / before - 1;
  if (ratio >= 9.995) return `×${compact(now / before)}`;
  return (Math.abs(ratio) < 0.0995 ? shareTenth : share).format(ratio);
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
  if (ms < 5000) return 'just now';
  if (ms < 60_000) return `${whole.format(Math.floor(ms / 1000))} s ago`;
  return ms < 99.5 * 60_000 ? `${whole.format(Math.floor(ms / 60_000))} min ago` : `${age(ms)} ago`;
}

const clockOf = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const secondsOf = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit', second: '2-digit' });
const dateOf = new Intl.DateTimeFormat(undefined, { day: 'numeric', month: 'short' });
const dayOf = new Intl.DateTimeFormat(undefined, { weekday: 'short', day: 'numeric', month: 'short' });
const fullOf = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'short' });

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

export function day(time) {
  return dayOf.format(time);
}

export function full(time) {
  return fullOf.format(time);
}
