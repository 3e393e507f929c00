import { nativeFunction } from "./libc.ts";

const mallocTrim = nativeFunction("int malloc_trim(size_t keep)");

/**
 * Gives memory that the process has freed back to the system. The C library keeps it otherwise, which after the end of a thread
 * may be many megabytes.
 *
 * Does nothing where the C library is not glibc.
 *
 * @source malloc_trim(3)
 */
export function releaseFreeMemory(): void {
  try {
    mallocTrim(0);
  } catch {
    // Other C libraries have no such function, and no such need.
  }
}
