import { dirname } from "node:path";
import { withDirectory } from "./directory.ts";
import { succeed } from "./file.ts";
import { controlMemory } from "./ioctl.ts";

/** @source linux/btrfs.h */
const request = {
  createSubvolume: 0x5000_940e,
  createSnapshot: 0x5000_9417,
  destroySubvolume: 0x5000_940f,
  lookUpInode: 0xd000_9412,
} as const;
/** Size of the argument of each. */
const argumentBytes = 4096;
const nameOffset = 8;
const nameBytesMax = 4039;
const snapshotFlagsOffset = 16;
const snapshotNameOffset = 56;
const readOnlyFlag = 2n;
/** The inode of the top of every subvolume. @source linux/btrfs_tree.h `BTRFS_FIRST_FREE_OBJECTID` */
const topInode = 256n;

/** What statfs(2) calls the file system. @source statfs(2) `BTRFS_SUPER_MAGIC` */
export const btrfsMagic = 0x9123_683e;

/**
 * Makes an empty subvolume, whose parent directory is on btrfs.
 *
 * @throws {@link SystemError}
 */
export function createSubvolume(path: string): void {
  withDirectory(dirname(path), (directory) => {
    const memory = Buffer.alloc(argumentBytes);
    writeName(memory, nameOffset, path);
    succeed(controlMemory(directory, request.createSubvolume, memory), () => `create subvolume ${path}`);
  });
}

/**
 * Makes a subvolume that has what another one has now. Nothing is copied.
 *
 * @throws {@link SystemError}
 */
export function createSnapshot(source: string, path: string, { readOnly }: { readonly readOnly: boolean }): void {
  withDirectory(source, (from) =>
    withDirectory(dirname(path), (directory) => {
      const memory = Buffer.alloc(argumentBytes);
      memory.writeBigInt64LE(BigInt(from), 0);
      memory.writeBigUInt64LE(readOnly ? readOnlyFlag : 0n, snapshotFlagsOffset);
      writeName(memory, snapshotNameOffset, path);
      succeed(controlMemory(directory, request.createSnapshot, memory), () => `snapshot ${source} as ${path}`);
    }),
  );
}

/**
 * Deletes a subvolume with all that is in it; its space is freed by the kernel afterwards.
 *
 * @throws {@link SystemError} `ENOTEMPTY` when there are subvolumes in it, `ENOENT` when it is not there.
 */
export function destroySubvolume(path: string): void {
  withDirectory(dirname(path), (directory) => {
    const memory = Buffer.alloc(argumentBytes);
    writeName(memory, nameOffset, path);
    succeed(controlMemory(directory, request.destroySubvolume, memory), () => `delete subvolume ${path}`);
  });
}

/** The number by which a subvolume is mounted (`subvolid=`). @throws {@link SystemError} */
export function subvolumeId(path: string): bigint {
  return withDirectory(path, (directory) => {
    const memory = Buffer.alloc(argumentBytes);
    memory.writeBigUInt64LE(topInode, 8);
    succeed(controlMemory(directory, request.lookUpInode, memory), () => `look up subvolume ${path}`);
    return memory.readBigUInt64LE(0);
  });
}

function writeName(memory: Buffer, offset: number, path: string): void {
  const name = Buffer.from(path.slice(path.lastIndexOf("/") + 1));
  if (name.length > nameBytesMax) {
    throw new RangeError(`${path} is too long`);
  }
  name.copy(memory, offset);
}
