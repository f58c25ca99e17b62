// How numbers read on this page.

/** Returns milliseconds with three significant digits: 0.0421, 3.14, 128. */
export function ms(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const digits = Math.max(0, Math.min(4, 2 - Math.floor(Math.log10(Math.abs(value)))));
  return value.toFixed(digits);
}

/** Returns a count or a rate: 0, 0.4, 12, 3,140. */
export function count(value) {
  if (!Number.isFinite(value)) return "–";
  return value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });
}

/** Returns "380 ×", "1.2 ×". */
export function factor(value) {
  return value === null || value === undefined ? "–" : `${count(value)} ×`;
}

/** Returns a model's output value: up to four significant digits, never rounded to a false 0. */
export function value(number) {
  if (typeof number !== "number") return String(number);
  if (Number.isInteger(number)) return String(number);
  const size = Math.abs(number);
  return size >= 1e-3 && size < 1e6 ? String(Number(number.toPrecision(4))) : number.toExponential(2);
}

/** Returns a share of one as a percentage that shows 100 % only for 1. */
export function percent(share) {
  if (share > 0.9995 && share < 1) return "> 99.9 %";
  if (share < 0.0005 && share > 0) return "< 0.1 %";
  return `${(share * 100).toFixed(1)} %`;
}

/** Returns the middle of a list of numbers, NaN for none. */
export function median(list) {
  const sorted = [...list].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** Returns a shape for people: "any × 28 × 28 × 1". */
export function shape(axes) {
  return axes.length ? axes.map((axis) => (axis < 0 ? "any" : axis)).join(" × ") : "scalar";
}
