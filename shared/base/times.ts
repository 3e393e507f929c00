/** Tells the time in ns since the epoch. */
export type Clock = () => bigint;

/** Nanoseconds in a millisecond. */
export const nsPerMs = 1_000_000n;
/** Nanoseconds in a second. */
export const nsPerSecond = 1_000_000_000n;

/**
 * The system's real-time clock, which is what everybody else on the machine goes by. It is cut to about a microsecond, so what it
 * says is never in the future; when the clock is set back, so is this.
 *
 * @source clock_gettime(2) CLOCK_REALTIME
 */
export const wallClock: Clock = () => Temporal.Now.instant().epochNanoseconds;

/** A time as messages hold it: the fields of `google.protobuf.Timestamp`. */
export interface MessageTime {
  readonly seconds: bigint;
  readonly nanos: number;
}

/** The same as a whole message, to be put into another one. */
export interface TimestampMessage {
  $typeName: "google.protobuf.Timestamp";
  seconds: bigint;
  nanos: number;
}

/** A time in ns since the epoch as clients get it. */
export function timestampOf(ns: bigint): TimestampMessage {
  const nanos = BigInt.asUintN(64, ((ns % nsPerSecond) + nsPerSecond) % nsPerSecond);
  return { $typeName: "google.protobuf.Timestamp", seconds: (ns - nanos) / nsPerSecond, nanos: Number(nanos) };
}

/** A time of a message in ns since the epoch. */
export function nanosecondsOf({ seconds, nanos }: MessageTime): bigint {
  return seconds * nsPerSecond + BigInt(nanos);
}

/** The present as clients get it. */
export function timestampNow(): TimestampMessage {
  return timestampOf(wallClock());
}

/**
 * A time, or Go's zero time where there is none: clients written in Go take a missing time for 1970 and show that.
 *
 * @source containerd v2.3.4 pkg/protobuf/timestamp.go `FromTimestamp`, `ToTimestamp`; Go time/time.go `Time.IsZero`
 */
export function timestampOrZero<T extends MessageTime>(time: T | undefined): T | TimestampMessage {
  return time ?? { $typeName: "google.protobuf.Timestamp", seconds: -62_135_596_800n, nanos: 0 };
}

const pattern = /^(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))$/;
const msPerMinute = 60_000;
const fractionDigits = 9;

/**
 * Reads a time as labels and containerd's files hold it, in ns since the epoch. Digits beyond the ninth of a fraction are cut.
 *
 * @returns undefined for everything that is no time, such as the 30th of February.
 * @source RFC 3339 section 5.6; Go time/format_rfc3339.go `parseRFC3339`
 */
export function findRfc3339Ns(text: string): bigint | undefined {
  const match = pattern.exec(text);
  if (match === null) {
    return undefined;
  }
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1, 7).map(Number);
  const offsetMinutes = (Number(match[9] ?? 0) * 60 + Number(match[10] ?? 0)) * (match[8] === "-" ? -1 : 1);
  const time = new Date(0);
  time.setUTCFullYear(year, month - 1, day);
  const isDate = time.getUTCMonth() === month - 1 && time.getUTCDate() === day;
  if (!isDate || hour > 23 || minute > 59 || second > 59) {
    return undefined;
  }
  time.setUTCHours(hour, minute, second);
  const fraction = (match[7] ?? "").slice(0, fractionDigits).padEnd(fractionDigits, "0");
  return BigInt(time.getTime() - offsetMinutes * msPerMinute) * nsPerMs + BigInt(fraction);
}

/**
 * Writes a time in UTC as Go does with `time.RFC3339Nano`: `2026-08-12T10:00:00.25Z`.
 *
 * @param time - After the year 0 and before the year 10000.
 * @source Go time/format.go `RFC3339Nano`
 */
export function formatRfc3339(time: MessageTime): string {
  return `${wholeSeconds(time.seconds)}${fractionText(time.nanos)}Z`;
}

/**
 * Writes a time in UTC as Go prints it: `2026-08-12 10:00:00.25 +0000 UTC`.
 *
 * @source Go time/format.go `Time.String`
 */
export function formatGoTime(time: MessageTime): string {
  return `${wholeSeconds(time.seconds).replace("T", " ")}${fractionText(time.nanos)} +0000 UTC`;
}

/** The second that was written last, since times to be written come many in one. */
let lastSecond = { seconds: 0n, text: "1970-01-01T00:00:00" };

function wholeSeconds(seconds: bigint): string {
  if (seconds !== lastSecond.seconds) {
    lastSecond = { seconds, text: new Date(Number(seconds) * 1000).toISOString().slice(0, -".000Z".length) };
  }
  return lastSecond.text;
}

function fractionText(nanos: number): string {
  return nanos === 0 ? "" : `.${String(nanos).padStart(fractionDigits, "0").replace(/0+$/, "")}`;
}
