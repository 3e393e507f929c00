import { closeSync, constants, lstatSync, openSync } from "node:fs";
import { isAbsolute } from "node:path";
import { ErrorKind, failure, systemErrorCode } from "#base/errors.ts";

/**
 * Holds the named pipes of a task at the end that is written, so that who reads them sees no end before the supervisor has opened them, and makes
 * sure that somebody reads: a supervisor that died amid a creation may have opened them already, and its reader has gone with the first end then.
 *
 * @throws {@link FlotillaError} `unavailable` when nobody reads one of them. What would be put out is lost.
 * @source fifo(7), open(2) ENXIO
 */
export function keepWriters(...paths: readonly string[]): Disposable {
  const descriptors: number[] = [];
  const close = (): void => descriptors.splice(0).forEach((descriptor) => closeSync(descriptor));
  try {
    for (const path of new Set(paths)) {
      if (isAbsolute(path) && lstatSync(path, { throwIfNoEntry: false })?.isFIFO() === true) {
        descriptors.push(openSync(path, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW));
      }
    }
  } catch (error) {
    close();
    if (systemErrorCode(error) !== "ENXIO") {
      throw error;
    }
    throw failure(ErrorKind.Unavailable, "nobody reads the output any more of a task whose creation was cut short", {
      cause: error,
    });
  }
  return { [Symbol.dispose]: close };
}
