// Numbers, times and durations as people read them.

const compact = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const second = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });

export const NOTHING = "–";

export function number(value) {
  return value === null || value === undefined ? NOTHING : compact.format(value);
}

export function percent(part, whole) {
  if (!whole) return NOTHING;
  const share = (100 * part) / whole;
  return `${share === 100 || share === 0 ? share : Math.min(99.9, share).toFixed(share < 10 ? 1 : 0)}%`;
}

export function milliseconds(value) {
  if (value === null || value === undefined) return NOTHING;
  return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(value < 10_000 ? 1 : 0)} s`;
}

export function duration(seconds) {
  if (seconds < 60) return `${Math.max(0, Math.ceil(seconds))} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  return seconds < 86_400 ? `${(seconds / 3600).toFixed(1)} h` : `${(seconds / 86_400).toFixed(1)} d`;
}

// Times come as ISO 8601 or as seconds since 1970.
export function instant(value) {
  if (value === null || value === undefined) return null;
  const time = new Date(typeof value === "number" ? value * 1000 : value);
  return Number.isNaN(time.getTime()) ? null : time;
}

export const minuteOf = (time) => clock.format(time);
export const secondOf = (time) => second.format(time);

export function momentOf(time) {
  return Math.abs(time - Date.now()) < 43_200_000 ? clock.format(time) : day.format(time);
}
