import type { ByteString } from "./bytes.ts";

/** Longest path that a call takes, its final NUL included. @source linux/limits.h `PATH_MAX` */
export const pathBytesMax = 4096;

/** Puts a path into memory of {@link pathBytesMax} for a call; false when it is longer than any path. */
export function placePath(memory: Buffer, path: ByteString): boolean {
  if (path.length >= pathBytesMax) {
    return false;
  }
  memory.write(path, 0, "latin1");
  memory[path.length] = 0;
  return true;
}
