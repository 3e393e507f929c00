const nsPerMs = 1e6;
const units = [
  ["ns", 1],
  ["\u00b5s", 1e3],
  ["ms", 1e6],
] as const;

/**
 * Writes a duration as Go does, such as `1m0s`, `1.5s`, `100ms` or `0s`.
 *
 * @param durationMs - Not negative.
 * @source Go time/time.go `(Duration).String`
 */
export function formatGoDuration(durationMs: number): string {
  const totalNs = Math.round(durationMs * nsPerMs);
  if (totalNs === 0) {
    return "0s";
  }
  for (const [name, unitNs] of units) {
    if (totalNs < unitNs * 1e3) {
      return `${totalNs / unitNs}${name}`;
    }
  }
  const hours = Math.floor(totalNs / 3600e9);
  const minutes = Math.floor(totalNs / 60e9) % 60;
  const seconds = `${(totalNs % 60e9) / 1e9}s`;
  return `${hours > 0 ? `${hours}h` : ""}${hours > 0 || minutes > 0 ? `${minutes}m` : ""}${seconds}`;
}
