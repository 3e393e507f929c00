import type { ByteString } from "./bytes.ts";
import type { FileTime } from "./inode.ts";
import { Errno, lastErrno, nativeFunction, SystemError } from "./libc.ts";
import { pathBytesMax, placePath } from "./path-memory.ts";

/** @source asm-generic/stat.h */
export const FileType = {
  Mask: 0o170000,
  Socket: 0o140000,
  Symlink: 0o120000,
  Regular: 0o100000,
  Block: 0o060000,
  Directory: 0o040000,
  Character: 0o020000,
  Fifo: 0o010000,
} as const;

/** What statx(2) tells of a file. */
export interface FileStatus {
  /** Type and permission bits. */
  readonly mode: number;
  readonly user: number;
  readonly group: number;
  readonly links: number;
  /** Unique within the file system. */
  readonly inode: bigint;
  /** Device of the file system. */
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  /** Device that the file is, 0 and 0 for others. */
  readonly nodeMajor: number;
  readonly nodeMinor: number;
  readonly sizeBytes: number;
  /** Space taken on disk, in units of 512 bytes. */
  readonly blocks: number;
  readonly accessed: FileTime;
  readonly modified: FileTime;
  /** When anything about it last changed. */
  readonly changed: FileTime;
}

const statxCall = nativeFunction("int statx(int directory, const void *path, int flags, uint32_t mask, void *status)");
const basicStats = 0x7ff;
const noFollow = 0x100;
const emptyPath = 0x1000;
const path = Buffer.alloc(pathBytesMax);
const result = Buffer.alloc(256);

/**
 * The status of a file, of a symbolic link itself; of the directory when the name is empty.
 *
 * @returns Undefined when there is no such file.
 * @throws {@link SystemError} for all other failures.
 * @source statx(2)
 */
export function findStatusAt(directory: number, name: ByteString): FileStatus | undefined {
  if (!placePath(path, name)) {
    throw new SystemError(Errno.NameTooLong, `lstat ${name}`);
  }
  if (statxCall(directory, path, noFollow | emptyPath, basicStats, result) === -1) {
    const errno = lastErrno();
    if (errno === Errno.NoEntry) {
      return undefined;
    }
    throw new SystemError(errno, `lstat ${name}`);
  }
  return {
    mode: result.readUInt16LE(28),
    user: result.readUInt32LE(20),
    group: result.readUInt32LE(24),
    links: result.readUInt32LE(16),
    inode: result.readBigUInt64LE(32),
    sizeBytes: readNumber(40),
    blocks: readNumber(48),
    accessed: readTime(64),
    modified: readTime(112),
    changed: readTime(96),
    nodeMajor: result.readUInt32LE(128),
    nodeMinor: result.readUInt32LE(132),
    deviceMajor: result.readUInt32LE(136),
    deviceMinor: result.readUInt32LE(140),
  };
}

/** Signed, of 64 bits. A walk reads many of these, and numbers of JavaScript's own are cheaper than `bigint`s. */
function readNumber(offset: number): number {
  return result.readInt32LE(offset + 4) * 2 ** 32 + result.readUInt32LE(offset);
}

function readTime(offset: number): FileTime {
  return { seconds: readNumber(offset), nanoseconds: result.readUInt32LE(offset + 8) };
}

/** The type bits of a mode, one of {@link FileType}. */
export function typeOf(status: FileStatus): number {
  return status.mode & FileType.Mask;
}
