import { create } from "@bufbuild/protobuf";
import { type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";

const nsPerSecond = 1_000_000_000n;

/** A time in ns since the epoch as clients get it. */
export function timestampOf(ns: bigint): Timestamp {
  return create(TimestampSchema, { seconds: ns / nsPerSecond, nanos: Number(ns % nsPerSecond) });
}
