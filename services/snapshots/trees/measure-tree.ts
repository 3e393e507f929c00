import { asByteString, type ByteString } from "#linux/bytes.ts";
import { listDirectory } from "#linux/directory.ts";
import { DirectoryPath } from "#linux/directory-path.ts";
import { type FileStatus, FileType, findStatusAt, typeOf } from "#linux/stat.ts";
import type { SnapshotUsage } from "../drivers/driver.ts";

/** @source stat(2) `st_blocks` */
const blockBytes = 512;
const itself = asByteString("");

/**
 * Counts the blocks and inodes of a tree, its top directory included; what has several names counts once.
 *
 * The tree may be a container's, which changes it meanwhile: what goes, or becomes something else, is counted or not. Links are
 * counted and never followed, and what is mounted in the tree is not entered.
 *
 * Makes system calls without a pause, for a thread of its own.
 *
 * @param baseRoot - The tree that it was a snapshot of: what has the same inode there and was not changed since is not counted.
 * @throws {@link SystemError} `ENOENT` when the tree itself is not there, and others.
 * @source containerd/continuity v0.4.5 fs/du_unix.go `diskUsage`
 */
export function measureTree(root: string, baseRoot?: string): SnapshotUsage {
  const linkedInodes = new Set<bigint>();
  let blocks = 0;
  let inodes = 0;
  using base = new BaseTree(baseRoot);
  const count = (status: FileStatus, name: ByteString): boolean => {
    const isDirectory = typeOf(status) === FileType.Directory;
    if (!isDirectory && status.links > 1) {
      if (linkedInodes.has(status.inode)) {
        return false;
      }
      linkedInodes.add(status.inode);
    }
    if (!base.has(name, status)) {
      blocks += status.blocks;
      inodes += 1;
    }
    return isDirectory;
  };
  /** Counts what is in the directory and answers its subdirectories. */
  const countEntries = (directory: number): ByteString[] =>
    listDirectory(directory).filter((name) => {
      const status = findStatusAt(directory, name);
      return status !== undefined && count(status, name);
    });
  using path = new DirectoryPath(root);
  const top = findStatusAt(path.descriptor, itself);
  if (top !== undefined) {
    count(top, itself);
  }
  const unseen = [countEntries(path.descriptor)];
  for (let level = unseen.at(-1); level !== undefined; level = unseen.at(-1)) {
    const name = level.pop();
    if (name === undefined) {
      unseen.pop();
      base.leave();
      if (!path.leave()) {
        break;
      }
    } else if (path.enter(name)) {
      base.enter(name);
      unseen.push(countEntries(path.descriptor));
    }
  }
  return { sizeBytes: BigInt(blocks * blockBytes), inodes: BigInt(inodes) };
}

/** Follows a walk in the tree that was there before, as far as that has the same directories. */
class BaseTree implements Disposable {
  #path: DirectoryPath | undefined;
  /** How far the walk is in directories that are not here. */
  #beyond = 0;

  constructor(root: string | undefined) {
    this.#path = root === undefined ? undefined : new DirectoryPath(root);
  }

  has(name: ByteString, status: FileStatus): boolean {
    if (this.#path === undefined || this.#beyond > 0) {
      return false;
    }
    const before = findStatusAt(this.#path.descriptor, name);
    return (
      before?.inode === status.inode &&
      before.changed.seconds === status.changed.seconds &&
      before.changed.nanoseconds === status.changed.nanoseconds
    );
  }

  enter(name: ByteString): void {
    if (this.#beyond > 0 || this.#path?.enter(name) !== true) {
      this.#beyond += 1;
    }
  }

  leave(): void {
    if (this.#beyond > 0) {
      this.#beyond -= 1;
    } else if (this.#path?.leave() === false) {
      // It was moved away, which happens to no committed snapshot; what follows counts as new.
      this.#path = undefined;
    }
  }

  [Symbol.dispose](): void {
    this.#path?.[Symbol.dispose]();
  }
}
