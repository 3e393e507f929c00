import { constants } from "node:fs";
import { checked, nativeFunction } from "./libc.ts";

/** @source linux/openat2.h */
export const Resolve = {
  NoCrossDevice: 0x01,
  NoMagicLinks: 0x02,
  NoSymlinks: 0x04,
  Beneath: 0x08,
  InRoot: 0x10,
} as const;

/** @source asm-generic/fcntl.h `O_PATH` */
export const pathOnlyFlag = 0o1000_0000;
/** @source asm-generic/fcntl.h `O_CLOEXEC` */
export const closeOnExecFlag = 0o200_0000;

/** The number of openat2(2), the same on every architecture. */
const openat2Number = 437;
const openat2Call = nativeFunction<[number, number, string, Buffer, number], number>(
  "long syscall(long number, int directory, const char *path, void *how, size_t size)",
);

/**
 * Opens the place that a path has inside a directory tree, as a descriptor that only names it (`O_PATH`). Symbolic links and
 * `..` are resolved as if the directory were `/`; nothing outside can be reached, whoever changes the tree meanwhile.
 *
 * @returns A descriptor that the caller closes. `/proc/self/fd/<n>` is a path to the place.
 * @throws {@link SystemError} `ENOENT` when the path does not exist.
 * @source openat2(2) `RESOLVE_IN_ROOT`
 */
export function openInRoot(root: string, path: string): number {
  const descriptor = openRoot(root);
  try {
    const how = Buffer.alloc(24);
    how.writeBigUInt64LE(BigInt(pathOnlyFlag | closeOnExecFlag), 0);
    how.writeBigUInt64LE(BigInt(Resolve.InRoot), 16);
    return checked(openat2Call(openat2Number, descriptor, path, how, how.length), () => `open ${path} in ${root}`);
  } finally {
    closeCall(descriptor);
  }
}

const openCall = nativeFunction<[string, number], number>("int open(const char *path, int flags)");
const closeCall = nativeFunction<[number], number>("int close(int descriptor)");

function openRoot(root: string): number {
  return checked(openCall(root, pathOnlyFlag | closeOnExecFlag | constants.O_DIRECTORY), () => `open ${root}`);
}
