import { closeSync, constants, openSync } from "node:fs";
import { checked, nativeFunction } from "./libc.ts";

const getdents = nativeFunction("long getdents64(int descriptor, void *entries, size_t size)");

/** Where the fields of `struct dirent64` lie. @source getdents64(2) */
const lengthOffset = 16;
const typeOffset = 18;
const nameOffset = 19;
/** @source linux/fs_types.h `DT_UNKNOWN` */
const typeUnknown = 0;

/**
 * Tells whether the file system of a directory says in the directory itself of what type an entry is (`d_type`), which overlayfs
 * needs to find whiteouts.
 *
 * @param directory - Has at least one entry besides `.` and `..`; without one the answer is true.
 * @throws {@link SystemError}
 * @source containerd/continuity v0.4.5 fs/dtype_linux.go `SupportsDType`
 */
export function recordsEntryTypes(directory: string): boolean {
  const descriptor = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    const entries = Buffer.alloc(32 * 1024);
    const filled = checked(getdents(descriptor, entries, entries.length), () => `read directory ${directory}`);
    for (let offset = 0; offset < filled; offset += entries.readUInt16LE(offset + lengthOffset)) {
      const nameEnd = entries.indexOf(0, offset + nameOffset);
      const name = entries.toString("latin1", offset + nameOffset, nameEnd);
      if (name !== "." && name !== ".." && entries[offset + typeOffset] === typeUnknown) {
        return false;
      }
    }
    return true;
  } finally {
    closeSync(descriptor);
  }
}
