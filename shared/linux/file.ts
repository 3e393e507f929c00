import { constants } from "node:fs";
import type { ByteString } from "./bytes.ts";
import { backgroundFunction, Errno, nativeFunction, outcome, SystemError } from "./libc.ts";
import { pathBytesMax, placePath } from "./path-memory.ts";

/**
 * Calls on files by a descriptor of their directory and a name, as in openat(2).
 *
 * Those whose failures are part of the ordinary course give back the negated error number instead of throwing; {@link succeed}
 * throws it. Names are {@link ByteString}s. A descriptor belongs to its opener. All of this is for 64-bit Linux.
 */

/** Stands for the working directory in place of a descriptor. @source linux/fcntl.h `AT_FDCWD` */
export const workingDirectory = -100;

/** @source asm-generic/fcntl.h */
export const OpenFlag = {
  ReadOnly: constants.O_RDONLY,
  WriteOnly: constants.O_WRONLY,
  ReadWrite: constants.O_RDWR,
  Create: constants.O_CREAT,
  Exclusive: constants.O_EXCL,
  Truncate: constants.O_TRUNC,
  Directory: constants.O_DIRECTORY,
  NoFollow: constants.O_NOFOLLOW,
  NonBlocking: constants.O_NONBLOCK,
  CloseOnExec: 0o200_0000,
  /** The descriptor only names the place. */
  Path: 0o1000_0000,
} as const;

/** @source linux/openat2.h */
export const Resolve = {
  /** Never onto another mount, be it of the same file system. */
  NoCrossing: 0x01,
  NoSymlinks: 0x04,
  Beneath: 0x08,
  InRoot: 0x10,
} as const;

const removeDirectory = 0x200;

const firstPath = Buffer.alloc(pathBytesMax);
const secondPath = Buffer.alloc(pathBytesMax);

/**
 * Gives back the result of a call of this module, or throws the error that it means.
 *
 * @throws {@link SystemError}
 */
export function succeed(result: number, context: () => string): number {
  if (result < 0) {
    throw new SystemError(-result, context());
  }
  return result;
}

const openatCall = nativeFunction("int openat(int directory, const void *path, int flags, uint32_t mode)");

/** Opens a file. A mode with O_CREAT is subject to the umask. */
export function openAt(directory: number, name: ByteString, flags: number, mode = 0): number {
  return placePath(firstPath, name)
    ? outcome(openatCall(directory, firstPath, flags | OpenFlag.CloseOnExec, mode))
    : -Errno.NameTooLong;
}

/** The number of openat2(2), the same on every architecture. */
const openat2Number = 437;
const openat2Call = nativeFunction(
  "long syscall(long number, int directory, const void *path, const void *how, size_t size)",
);
const openHow = Buffer.alloc(24);
/** How often to try again when any rename on the machine has kept the kernel from vouching for a `..`. */
const raceTriesMax = 100;

/**
 * Opens a path with rules for how it is resolved, which the kernel keeps whoever changes the tree meanwhile.
 *
 * @param resolve - Sum of {@link Resolve}.
 * @source openat2(2)
 */
export function openResolved(directory: number, path: ByteString, flags: number, resolve: number): number {
  if (!placePath(firstPath, path)) {
    return -Errno.NameTooLong;
  }
  openHow.writeUInt32LE(flags | OpenFlag.CloseOnExec, 0);
  openHow.writeUInt32LE(resolve, 16);
  for (let tries = 1; ; tries += 1) {
    const opened = outcome(openat2Call(openat2Number, directory, firstPath, openHow, openHow.length));
    if (opened !== -Errno.TryAgain || tries === raceTriesMax) {
      return opened;
    }
  }
}

/**
 * Opens the place that a path has inside a directory tree, as a descriptor that only names it. Symbolic links and `..` are
 * resolved as if the directory were `/`; nothing outside can be reached.
 *
 * @returns A descriptor that the caller closes. `/proc/self/fd/<n>` is a path to the place.
 * @throws {@link SystemError} `ENOENT` when the path does not exist.
 * @source openat2(2) `RESOLVE_IN_ROOT`
 */
export function openInRoot(root: ByteString, path: ByteString): number {
  const directory = succeed(openAt(workingDirectory, root, OpenFlag.Path | OpenFlag.Directory), () => `open ${root}`);
  try {
    return succeed(openResolved(directory, path, OpenFlag.Path, Resolve.InRoot), () => `open ${path} in ${root}`);
  } finally {
    closeFile(directory);
  }
}

const closeCall = nativeFunction("int close(int descriptor)");

/** Closes a descriptor. What it reports is about a descriptor that is gone all the same. */
export function closeFile(descriptor: number): number {
  return outcome(closeCall(descriptor));
}

const writeCall = nativeFunction("long write(int descriptor, const void *data, size_t size)");

/** Writes at the current position, all of it if the call succeeds. */
export function writeFully(descriptor: number, data: Uint8Array): number {
  let rest = data;
  for (;;) {
    const written = outcome(writeCall(descriptor, rest, rest.length));
    if (written < 0 || written === rest.length) {
      return written < 0 ? written : data.length;
    }
    rest = rest.subarray(written);
  }
}

const mkdiratCall = nativeFunction("int mkdirat(int directory, const void *path, uint32_t mode)");

/** Makes a directory. The mode is subject to the umask. */
export function makeDirectoryAt(directory: number, name: ByteString, mode: number): number {
  return placePath(firstPath, name) ? outcome(mkdiratCall(directory, firstPath, mode)) : -Errno.NameTooLong;
}

const symlinkatCall = nativeFunction("int symlinkat(const void *target, int directory, const void *path)");

/** Makes a symbolic link. The target is any bytes. */
export function makeSymlinkAt(target: ByteString, directory: number, name: ByteString): number {
  return placePath(firstPath, target) && placePath(secondPath, name)
    ? outcome(symlinkatCall(firstPath, directory, secondPath))
    : -Errno.NameTooLong;
}

const linkatCall = nativeFunction(
  "int linkat(int fromDirectory, const void *from, int toDirectory, const void *to, int flags)",
);

/** A file by its directory and name. */
export interface Place {
  readonly directory: number;
  readonly name: ByteString;
}

/** Makes a hard link. A symbolic link is linked itself, not followed. */
export function makeLinkAt(from: Place, to: Place): number {
  return placePath(firstPath, from.name) && placePath(secondPath, to.name)
    ? outcome(linkatCall(from.directory, firstPath, to.directory, secondPath, 0))
    : -Errno.NameTooLong;
}

const renameatCall = nativeFunction(
  "int renameat(int fromDirectory, const void *from, int toDirectory, const void *to)",
);

/** Renames; what is at the new place goes. */
export function renameAt(from: Place, to: Place): number {
  return placePath(firstPath, from.name) && placePath(secondPath, to.name)
    ? outcome(renameatCall(from.directory, firstPath, to.directory, secondPath))
    : -Errno.NameTooLong;
}

const mknodatCall = nativeFunction("int mknodat(int directory, const void *path, uint32_t mode, uint64_t device)");

/**
 * Makes a device, FIFO or socket file.
 *
 * @param mode - Type and permission bits; the latter subject to the umask.
 * @param device - From {@link deviceNumber}; 0 for what is no device.
 */
export function makeNodeAt(directory: number, name: ByteString, mode: number, device: bigint | number): number {
  return placePath(firstPath, name) ? outcome(mknodatCall(directory, firstPath, mode, device)) : -Errno.NameTooLong;
}

/** The number of a device of the C library. @source makedev(3), glibc sysdeps/unix/sysv/linux/makedev.c */
export function deviceNumber(major: number, minor: number): bigint {
  const [high, low] = [BigInt.asUintN(32, BigInt(major)), BigInt.asUintN(32, BigInt(minor))];
  return ((high & 0xfffff000n) << 32n) | ((high & 0xfffn) << 8n) | ((low & 0xffffff00n) << 12n) | (low & 0xffn);
}

const unlinkatCall = nativeFunction("int unlinkat(int directory, const void *path, int flags)");

/** Removes a name that is not a directory. */
export function removeFileAt(directory: number, name: ByteString): number {
  return placePath(firstPath, name) ? outcome(unlinkatCall(directory, firstPath, 0)) : -Errno.NameTooLong;
}

/** Removes an empty directory. */
export function removeDirectoryAt(directory: number, name: ByteString): number {
  return placePath(firstPath, name) ? outcome(unlinkatCall(directory, firstPath, removeDirectory)) : -Errno.NameTooLong;
}

const readlinkatCall = nativeFunction("long readlinkat(int directory, const void *path, void *target, size_t size)");

/** The target of a symbolic link. @throws {@link SystemError} `EINVAL` when it is none. */
export function readSymlinkAt(directory: number, name: ByteString): ByteString {
  const length = placePath(firstPath, name)
    ? outcome(readlinkatCall(directory, firstPath, secondPath, pathBytesMax))
    : -Errno.NameTooLong;
  return secondPath.toString(
    "latin1",
    0,
    succeed(length, () => `readlink ${name}`),
  ) as ByteString;
}

const syncCall = backgroundFunction("void sync(void)");

/** Writes out all file systems, on a thread of the pool. */
export async function syncAllFileSystems(): Promise<void> {
  await syncCall();
}

const syncfsCall = nativeFunction("int syncfs(int descriptor)");

/** Writes out the whole file system that an open file lies on. */
export function syncFileSystem(descriptor: number): number {
  return outcome(syncfsCall(descriptor));
}

const ftruncateCall = nativeFunction("int ftruncate(int descriptor, int64_t size)");

/** Sets the size of an open file; what is new is a hole. */
export function setSize(descriptor: number, sizeBytes: number): number {
  return outcome(ftruncateCall(descriptor, sizeBytes));
}

const seekCall = nativeFunction("int64_t lseek(int descriptor, int64_t offset, int whence)");

/** Moves the position of an open file. */
export function seekTo(descriptor: number, offsetBytes: number): number {
  return outcome(seekCall(descriptor, offsetBytes, 0));
}
