import { closeSync, constants, fstatSync, lstatSync, openSync } from "node:fs";
import { isAbsolute } from "node:path";
import { systemErrorCode } from "#base/errors.ts";

/**
 * The named pipes that a task writes to, held open at the end that is read, and never read.
 *
 * A pipe keeps what is in it for as long as somebody has it open. A shim lets its pipes go when the process has ended and all its output is in them; where the client that
 * reads is away at that time (it was killed and comes back), this end is what its last output waits in.
 *
 * @source pipe(7), fifo(7)
 */
export class HeldOutput {
  readonly #descriptors: number[] = [];
  #isLetGo = false;

  /** Holds what of these is a named pipe: files and addresses of loggers, "" among them, are passed over. Never throws. */
  hold(...paths: readonly string[]): void {
    for (const path of new Set(paths)) {
      const descriptor = this.#isLetGo || !isAbsolute(path) ? undefined : openPipe(path);
      if (descriptor !== undefined) {
        this.#descriptors.push(descriptor);
      }
    }
  }

  /** Lets them go. What nobody has read is lost then, unless somebody else has them open. */
  letGo(): void {
    this.#isLetGo = true;
    for (const descriptor of this.#descriptors.splice(0)) {
      closeSync(descriptor);
    }
  }
}

/** Undefined for what is no pipe, is not there or can't be opened: a task runs all the same. */
function openPipe(path: string): number | undefined {
  try {
    // Looked at before, since to open a device may do something to it.
    if (!lstatSync(path).isFIFO()) {
      return undefined;
    }
    const descriptor = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
    if (fstatSync(descriptor).isFIFO()) {
      return descriptor;
    }
    closeSync(descriptor);
  } catch (error) {
    if (systemErrorCode(error) === undefined) {
      throw error;
    }
  }
  return undefined;
}
