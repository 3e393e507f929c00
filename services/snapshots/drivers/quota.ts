import { parseByteSize } from "#base/byte-size.ts";
import { ErrorKind, errorMessage, failure } from "#base/errors.ts";

/** Label by which a client limits what may be written in an active snapshot, such as `10GiB`. It is our own. */
export const quotaLabel = "containerd.io/snapshot/flotilla.quota";

/** The smallest file system that is worth one. */
const quotaBytesMin = 1024 * 1024;

/**
 * What may be written in a snapshot at most, by its labels.
 *
 * @returns Bytes; undefined for no limit.
 * @throws {@link FlotillaError} `invalid_argument` for a label that is no size, or less than 1 MiB.
 */
export function findQuota(labels: Readonly<Record<string, string>>): number | undefined {
  const text = labels[quotaLabel];
  if (text === undefined) {
    return undefined;
  }
  let sizeBytes: number;
  try {
    sizeBytes = parseByteSize(text);
  } catch (error) {
    throw failure(ErrorKind.InvalidArgument, `${quotaLabel}: ${errorMessage(error)}`);
  }
  if (sizeBytes < quotaBytesMin) {
    throw failure(ErrorKind.InvalidArgument, `${quotaLabel}: ${text} is less than 1MiB`);
  }
  return sizeBytes;
}
