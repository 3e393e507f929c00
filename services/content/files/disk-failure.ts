import { ErrorKind, errorMessage, FlotillaError, failure, systemErrorCode } from "#base/errors.ts";

/** What the kernel says when no more bytes fit. @source write(2), fsync(2) */
const fullDiskTexts: Readonly<Record<string, string>> = {
  ENOSPC: "no space left on device",
  EDQUOT: "disk quota exceeded",
};

/**
 * Makes the error that a client sees when the disk refused something: `resource_exhausted` when it is full, `unknown`
 * otherwise.
 *
 * @param context - What was to be done, such as `write ingest`.
 */
export function diskFailure(error: unknown, context: string): FlotillaError {
  if (error instanceof FlotillaError) {
    return error;
  }
  const full = fullDiskTexts[systemErrorCode(error) ?? ""];
  return full === undefined
    ? new FlotillaError(ErrorKind.Unknown, `${context}: ${errorMessage(error)}`, { cause: error })
    : failure(ErrorKind.ResourceExhausted, `${context}: ${full}`, { cause: error });
}

/** Awaits something that the disk does, with its failure made presentable by {@link diskFailure}. */
export async function onDisk<T>(context: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    throw diskFailure(error, context);
  }
}
