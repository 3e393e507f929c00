import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { quote } from "#base/quote.ts";

const pattern = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/;
const nsPerMs = 1_000_000n;
const nsPerSecond = 1_000_000_000n;

/**
 * Reads a time as containerd writes it into the files of an ingest.
 *
 * @param text - RFC 3339 with up to nine digits of a second.
 * @returns Nanoseconds since the epoch.
 * @throws {@link FlotillaError} `unknown` when it is no time.
 * @source Go time/format_rfc3339.go `parseRFC3339`
 */
export function parseTimestamp(text: string): bigint {
  const [, dateTime, fraction = "", zone] = pattern.exec(text) ?? [];
  const ms = Date.parse(`${dateTime}${zone}`);
  if (Number.isNaN(ms)) {
    throw new FlotillaError(ErrorKind.Unknown, `${quote(text)} is no RFC 3339 time`);
  }
  return BigInt(ms) * nsPerMs + BigInt(fraction.padEnd(9, "0"));
}

/** Writes a time so that {@link parseTimestamp} and containerd read it, in UTC. */
export function formatTimestamp(ns: bigint): string {
  const seconds = new Date(Number(ns / nsPerMs)).toISOString().slice(0, -".000Z".length);
  const fraction = String(ns % nsPerSecond)
    .padStart(9, "0")
    .replace(/0+$/, "");
  return fraction === "" ? `${seconds}Z` : `${seconds}.${fraction}Z`;
}
