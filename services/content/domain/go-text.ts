const nsPerSecond = 1_000_000_000n;

/**
 * Formats a duration as Go prints it: `1.5ms`, `2m0.25s`.
 *
 * @source Go time/time.go `Duration.String`
 */
export function formatGoDuration(ns: bigint): string {
  if (ns < nsPerSecond) {
    return formatSubsecond(ns);
  }
  const seconds = ns / nsPerSecond;
  const hours = seconds / 3600n;
  const minutes = (seconds / 60n) % 60n;
  const rest = `${withFraction(seconds % 60n, ns % nsPerSecond, 9)}s`;
  if (hours > 0n) {
    return `${hours}h${minutes}m${rest}`;
  }
  return minutes > 0n ? `${minutes}m${rest}` : rest;
}

function formatSubsecond(ns: bigint): string {
  if (ns >= 1_000_000n) {
    return `${withFraction(ns / 1_000_000n, ns % 1_000_000n, 6)}ms`;
  }
  if (ns >= 1_000n) {
    return `${withFraction(ns / 1_000n, ns % 1_000n, 3)}µs`;
  }
  return ns === 0n ? "0s" : `${ns}ns`;
}

/**
 * Formats a time in UTC as Go prints it: `2026-08-12 10:00:00.25 +0000 UTC`.
 *
 * @source Go time/format.go `Time.String`
 */
export function formatGoTime(ns: bigint): string {
  const date = new Date(Number(ns / 1_000_000n)).toISOString();
  return `${date.slice(0, 10)} ${date.slice(11, 19)}${fractionText(ns % nsPerSecond, 9)} +0000 UTC`;
}

function withFraction(whole: bigint, fraction: bigint, digits: number): string {
  return `${whole}${fractionText(fraction, digits)}`;
}

function fractionText(fraction: bigint, digits: number): string {
  return fraction === 0n ? "" : `.${String(fraction).padStart(digits, "0").replace(/0+$/, "")}`;
}
