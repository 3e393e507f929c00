import { create } from "@bufbuild/protobuf";
import { type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";

/** The present, to the nanosecond. */
export function timestampNow(): Timestamp {
  const nanoseconds = Temporal.Now.instant().epochNanoseconds;
  return create(TimestampSchema, {
    seconds: nanoseconds / 1_000_000_000n,
    nanos: Number(nanoseconds % 1_000_000_000n),
  });
}

/**
 * A time, or Go's zero time where there is none: clients written in Go take a missing time for 1970 and show that.
 *
 * @source containerd v2.3.4 pkg/protobuf/timestamp.go `FromTimestamp`, `ToTimestamp`; Go time/time.go `Time.IsZero`
 */
export function timeOrZero(time: Timestamp | undefined): Timestamp {
  return time ?? create(TimestampSchema, { seconds: -62_135_596_800n, nanos: 0 });
}
