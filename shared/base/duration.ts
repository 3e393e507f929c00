import { quote } from "./quote.ts";

const unitsNs: Record<string, number> = {
  ns: 1,
  us: 1e3,
  "\u00b5s": 1e3,
  "\u03bcs": 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3600e9,
};
const nsPerMs = 1e6;
/** The longest duration that Go can hold, about 292 years. @source Go time/time.go `maxDuration` */
const durationNsMax = 2 ** 63;

/**
 * Reads a duration as Go writes it, such as `1h30m`, `1.5s`, `-3ms` or `0`.
 *
 * @returns Milliseconds; less than one for `us` and `ns`.
 * @throws Error `time: invalid duration "x"`, or one that names a missing or an unknown unit.
 * @source Go time/format.go `ParseDuration`
 */
export function parseDuration(text: string): number {
  const sign = text.startsWith("-") ? -1 : 1;
  const unsigned = text.replace(/^[-+]/, "");
  if (unsigned === "0") {
    return 0;
  }
  const invalid = (): Error => new Error(`time: invalid duration ${quote(text)}`);
  if (unsigned === "") {
    throw invalid();
  }
  let totalNs = 0;
  const part = /(\d*)(\.\d*)?([^\d.]*)/y;
  while (part.lastIndex < unsigned.length) {
    const [, whole = "", fraction = "", unit = ""] = part.exec(unsigned) ?? [];
    if (whole === "" && fraction.length < 2) {
      throw invalid();
    }
    if (unit === "") {
      throw new Error(`time: missing unit in duration ${quote(text)}`);
    }
    const unitNs = Object.hasOwn(unitsNs, unit) ? unitsNs[unit] : undefined;
    if (unitNs === undefined) {
      throw new Error(`time: unknown unit ${quote(unit)} in duration ${quote(text)}`);
    }
    const digits = fraction.slice(1);
    totalNs += Number(whole) * unitNs + Math.trunc(Number(digits) * (unitNs / 10 ** digits.length));
  }
  if (totalNs >= durationNsMax) {
    throw invalid();
  }
  return totalNs === 0 ? 0 : (sign * totalNs) / nsPerMs;
}

/**
 * Writes a duration as Go does: `"0s"`, `"1.5ms"`, `"1m30s"`, `"1h0m0s"`.
 *
 * @param durationMs - In milliseconds; what is finer than a nanosecond is dropped.
 * @source Go time/time.go `Duration.String`
 */
export function formatDuration(durationMs: number): string {
  const sign = durationMs < 0 ? "-" : "";
  const nanoseconds = Math.round(Math.abs(durationMs) * 1e6);
  if (nanoseconds === 0) {
    return "0s";
  }
  if (nanoseconds < 1e9) {
    const [unit, perUnit] = nanoseconds < 1e3 ? ["ns", 1] : nanoseconds < 1e6 ? ["µs", 1e3] : ["ms", 1e6];
    return `${sign}${nanoseconds / perUnit}${unit}`;
  }
  const wholeMinutes = Math.floor(nanoseconds / 60e9);
  const seconds = `${(nanoseconds - wholeMinutes * 60e9) / 1e9}s`;
  const hours = Math.floor(wholeMinutes / 60);
  const minutes = wholeMinutes > 0 ? `${wholeMinutes % 60}m` : "";
  return `${sign}${hours > 0 ? `${hours}h` : ""}${minutes}${seconds}`;
}
