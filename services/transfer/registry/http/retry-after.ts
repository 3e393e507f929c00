/**
 * How long a server asks to be left alone, in ms.
 *
 * @param value - Of the header `Retry-After`: seconds, or a date.
 * @param nowMs - Since the epoch.
 * @returns undefined when the header is absent or means nothing.
 * @source RFC 9110, 10.2.3
 */
export function readRetryAfter(value: string | readonly string[] | undefined, nowMs: number): number | undefined {
  const text = (typeof value === "string" ? value : (value?.[0] ?? "")).trim();
  if (/^\d{1,9}$/.test(text)) {
    return Number(text) * 1000;
  }
  const dateMs = /[A-Za-z]/.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(dateMs) ? undefined : Math.max(0, dateMs - nowMs);
}
