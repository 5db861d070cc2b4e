// Colours that colour-blind people tell apart: Okabe and Ito's for kinds, cividis for numbers.

const KINDS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#7a5cc4"];
const REST = "#8b8f96";
const CIVIDIS = ["#00224e", "#35456c", "#666970", "#948e77", "#c8b866", "#fee838"];

const channels = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
const hex = (parts) => `#${parts.map((part) => Math.round(part).toString(16).padStart(2, "0")).join("")}`;

/** Return a colour of cividis, from 0 (dark) to 1 (light). */
export function ramp(share) {
  const at = Math.min(1, Math.max(0, share)) * (CIVIDIS.length - 1);
  const low = Math.min(CIVIDIS.length - 2, Math.floor(at));
  const [one, other] = [channels(CIVIDIS[low]), channels(CIVIDIS[low + 1])];
  return hex(one.map((part, number) => part + (other[number] - part) * (at - low)));
}

/** Return a colour as a pixel of canvas memory, which is little-endian RGBA. */
export function pixel(colour) {
  const [red, green, blue] = channels(colour);
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

/**
 * Return how images are coloured by kinds: the most frequent ones have colours of their own.
 * @param kinds kind of each image, or null
 */
export function byKinds(kinds) {
  const counts = new Map();
  for (const kind of kinds) if (kind != null) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  const order = [...counts.keys()].sort((one, other) => counts.get(other) - counts.get(one));
  const colours = new Map(order.slice(0, KINDS.length).map((kind, number) => [kind, KINDS[number]]));
  return {
    of: (row) => colours.get(kinds[row]) ?? REST,
    legend: order.map((kind) => ({ kind, count: counts.get(kind), colour: colours.get(kind) ?? REST })),
    rowsOf: (kind) => kinds.flatMap((one, row) => (one === kind ? [row] : [])),
  };
}

/** Return how images are coloured by numbers; NaN is unknown. */
export function byNumbers(numbers) {
  let low = Infinity, high = -Infinity;
  for (const number of numbers)
    if (Number.isFinite(number)) [low, high] = [Math.min(low, number), Math.max(high, number)];
  const share = (number) => (high > low ? (number - low) / (high - low) : 0.5);
  return { of: (row) => (Number.isFinite(numbers[row]) ? ramp(share(numbers[row])) : REST), low, high };
}
