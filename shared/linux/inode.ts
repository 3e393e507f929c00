import type { ByteString } from "./bytes.ts";
import { Errno, nativeFunction, outcome } from "./libc.ts";
import { pathBytesMax, placePath } from "./path-memory.ts";

/** Owner, mode and times of files. All of these give back 0 or the negated error number, as the calls of `file.ts` do. */

const noFollow = 0x100;
const path = Buffer.alloc(pathBytesMax);

const fchownCall = nativeFunction("int fchown(int descriptor, uint32_t user, uint32_t group)");

/** Sets owner and group of an open file. This clears its setuid and setgid bits. */
export function changeOwner(descriptor: number, user: number, group: number): number {
  return outcome(fchownCall(descriptor, user >>> 0, group >>> 0));
}

const fchownatCall = nativeFunction(
  "int fchownat(int directory, const void *path, uint32_t user, uint32_t group, int flags)",
);

/** Sets owner and group of a file, or of a symbolic link itself. */
export function changeOwnerAt(directory: number, name: ByteString, user: number, group: number): number {
  return placePath(path, name)
    ? outcome(fchownatCall(directory, path, user >>> 0, group >>> 0, noFollow))
    : -Errno.NameTooLong;
}

const fchmodCall = nativeFunction("int fchmod(int descriptor, uint32_t mode)");

/** Sets the permission bits of an open file. */
export function changeMode(descriptor: number, mode: number): number {
  return outcome(fchmodCall(descriptor, mode));
}

const fchmodatCall = nativeFunction("int fchmodat(int directory, const void *path, uint32_t mode, int flags)");

/** Sets the permission bits of a file. A symbolic link has none: `-EOPNOTSUPP`. @source fchmodat(3) */
export function changeModeAt(directory: number, name: ByteString, mode: number): number {
  return placePath(path, name) ? outcome(fchmodatCall(directory, path, mode, noFollow)) : -Errno.NameTooLong;
}

/** A point in time, before 1970 with negative seconds. */
export interface FileTime {
  /** Whole seconds since 1970, rounded down. */
  readonly seconds: number;
  /** 0 to 999,999,999. */
  readonly nanoseconds: number;
}

const utimensatCall = nativeFunction("int utimensat(int directory, const void *path, const void *times, int flags)");
const futimensCall = nativeFunction("int futimens(int descriptor, const void *times)");
const timeSpecs = Buffer.alloc(32);

function placeTimes(accessed: FileTime, modified: FileTime): void {
  placeTime(accessed, 0);
  placeTime(modified, 16);
}

function placeTime({ seconds, nanoseconds }: FileTime, offset: number): void {
  timeSpecs.writeInt32LE(seconds | 0, offset);
  timeSpecs.writeInt32LE(Math.floor(seconds / 0x1_0000_0000), offset + 4);
  timeSpecs.writeInt32LE(nanoseconds, offset + 8);
}

/** Sets the times of an open file. */
export function setTimes(descriptor: number, accessed: FileTime, modified: FileTime): number {
  placeTimes(accessed, modified);
  return outcome(futimensCall(descriptor, timeSpecs));
}

/** Sets the times of a file, or of a symbolic link itself. */
export function setTimesAt(directory: number, name: ByteString, accessed: FileTime, modified: FileTime): number {
  placeTimes(accessed, modified);
  return placePath(path, name) ? outcome(utimensatCall(directory, path, timeSpecs, noFollow)) : -Errno.NameTooLong;
}
