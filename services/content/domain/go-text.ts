const nsPerSecond = 1_000_000_000n;

/**
 * Formats a time in UTC as Go prints it: `2026-08-12 10:00:00.25 +0000 UTC`.
 *
 * @source Go time/format.go `Time.String`
 */
export function formatGoTime(ns: bigint): string {
  const date = new Date(Number(ns / 1_000_000n)).toISOString();
  return `${date.slice(0, 10)} ${date.slice(11, 19)}${fractionText(ns % nsPerSecond, 9)} +0000 UTC`;
}

function fractionText(fraction: bigint, digits: number): string {
  return fraction === 0n ? "" : `.${String(fraction).padStart(digits, "0").replace(/0+$/, "")}`;
}
