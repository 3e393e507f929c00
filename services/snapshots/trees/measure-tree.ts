import { asByteString, type ByteString } from "#linux/bytes.ts";
import { listDirectory } from "#linux/directory.ts";
import { DirectoryPath } from "#linux/directory-path.ts";
import { type FileStatus, FileType, findStatusAt, typeOf } from "#linux/stat.ts";
import type { SnapshotUsage } from "../drivers/driver.ts";

/** @source stat(2) `st_blocks` */
const blockBytes = 512n;

/**
 * Counts the blocks and inodes of a tree, its top directory included; what has several names counts once.
 *
 * The tree may be a container's, which changes it meanwhile: what goes, or becomes something else, is counted or not. Links are
 * counted and never followed, and what is mounted in the tree is not entered.
 *
 * Makes system calls without a pause, for a thread of its own.
 *
 * @throws {@link SystemError} `ENOENT` when the tree itself is not there, and others.
 * @source containerd/continuity v0.4.5 fs/du_unix.go `diskUsage`
 */
export function measureTree(root: string): SnapshotUsage {
  const linkedInodes = new Set<bigint>();
  let blocks = 0n;
  let inodes = 0n;
  const count = (status: FileStatus): boolean => {
    const isDirectory = typeOf(status) === FileType.Directory;
    if (!isDirectory && status.links > 1) {
      if (linkedInodes.has(status.inode)) {
        return false;
      }
      linkedInodes.add(status.inode);
    }
    blocks += BigInt(status.blocks);
    inodes += 1n;
    return isDirectory;
  };
  /** Counts what is in the directory and answers its subdirectories. */
  const countEntries = (directory: number): ByteString[] =>
    listDirectory(directory).filter((name) => {
      const status = findStatusAt(directory, name);
      return status !== undefined && count(status);
    });
  using path = new DirectoryPath(root);
  const top = findStatusAt(path.descriptor, asByteString(""));
  if (top !== undefined) {
    count(top);
  }
  const unseen = [countEntries(path.descriptor)];
  for (let level = unseen.at(-1); level !== undefined; level = unseen.at(-1)) {
    const name = level.pop();
    if (name === undefined) {
      unseen.pop();
      if (!path.leave()) {
        break;
      }
    } else if (path.enter(name)) {
      unseen.push(countEntries(path.descriptor));
    }
  }
  return { sizeBytes: blocks * blockBytes, inodes };
}
