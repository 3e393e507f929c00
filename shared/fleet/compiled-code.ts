import { flushCompileCache } from "node:module";

/** How long after the start the code is written, so that nobody waits for it. */
const writeAfterMs = 2_000;

/**
 * Writes the compiled code of what has been loaded, from which the next start is faster. Node.js does so itself when the process ends in an orderly
 * way, so that without this the start after a crash would be a slow one. Does nothing where no place for such code is set.
 */
export function keepCompiledCode(): void {
  setTimeout(() => flushCompileCache(), writeAfterMs).unref();
}
