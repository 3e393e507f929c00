import { fstatSync } from "node:fs";
import { toByteString } from "./bytes.ts";
import { closeFile, OpenFlag, openAt, succeed, workingDirectory } from "./file.ts";
import { controlMemory } from "./ioctl.ts";

/** @source linux/fs.h `FS_IOC_GETFLAGS`, `FS_IOC_SETFLAGS`; linux/fsverity.h `FS_IOC_ENABLE_VERITY` */
const request = { getFlags: 0x8008_6601, setFlags: 0x4008_6602, enableVerity: 0x4080_6685 } as const;
const immutableFlag = 0x10;
const verityFlag = 0x10_0000;
/** Size of `struct fsverity_enable_arg`. */
const verityArgumentBytes = 128;
const sha256Algorithm = 1;
const pageBytes = 4096;

/**
 * Makes a file that nobody can change, rename or delete, or one that can be again.
 *
 * @throws {@link SystemError} `ENOENT`; `ENOTTY` or `ENOTSUP` where the file system has no such attribute; `EPERM` without the capability.
 * @source ioctl_iflags(2)
 */
export function setImmutable(path: string, immutable: boolean): void {
  withFile(path, (descriptor) => {
    const before = readFlags(descriptor, path);
    const after = immutable ? before | immutableFlag : before & ~immutableFlag;
    if (after !== before) {
      const memory = Buffer.alloc(8);
      memory.writeUInt32LE(after, 0);
      succeed(controlMemory(descriptor, request.setFlags, memory), () => `error setting inode flags of ${path}`);
    }
  });
}

/**
 * Has the kernel check every block of a file against a hash from now on, and refuse all writes. A file that has it stays as it is.
 *
 * @throws {@link SystemError} `ENOTTY` or `ENOTSUP` where the file system cannot; `ETXTBSY` while somebody writes.
 * @source fs-verity, https://docs.kernel.org/filesystems/fsverity.html
 */
export function enableVerity(path: string): void {
  withFile(path, (descriptor) => {
    if ((readFlags(descriptor, path) & verityFlag) !== 0) {
      return;
    }
    const memory = Buffer.alloc(verityArgumentBytes);
    memory.writeUInt32LE(1, 0);
    memory.writeUInt32LE(sha256Algorithm, 4);
    memory.writeUInt32LE(Math.min(pageBytes, fstatSync(descriptor).blksize), 8);
    succeed(controlMemory(descriptor, request.enableVerity, memory), () => "enable fsverity failed");
  });
}

/** Tells whether {@link enableVerity} was called for a file. @throws {@link SystemError} */
export function hasVerity(path: string): boolean {
  return withFile(path, (descriptor) => (readFlags(descriptor, path) & verityFlag) !== 0);
}

function readFlags(descriptor: number, path: string): number {
  const memory = Buffer.alloc(8);
  succeed(controlMemory(descriptor, request.getFlags, memory), () => `error getting inode flags of ${path}`);
  return memory.readUInt32LE(0);
}

function withFile<T>(path: string, use: (descriptor: number) => T): T {
  const flags = OpenFlag.ReadOnly | OpenFlag.NoFollow;
  const descriptor = succeed(openAt(workingDirectory, toByteString(path), flags), () => `failed to open ${path}`);
  try {
    return use(descriptor);
  } finally {
    closeFile(descriptor);
  }
}
