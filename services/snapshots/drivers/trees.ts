import type { SnapshotUsage } from "./usage.ts";

/** What drivers have done with whole directory trees, off the thread that answers calls. */
export interface TreeWorkers {
  /**
   * Counts the blocks and inodes of a tree that may change meanwhile.
   *
   * @param base - The tree that it was a snapshot of, inode for inode: what is the same there is not counted.
   * @throws {@link FlotillaError} with the code `ENOENT` when it is not there.
   */
  measure(root: string, base?: string): Promise<SnapshotUsage>;
  /** Deletes trees. Those that are not there are passed over. @throws {@link FlotillaError} after having deleted all that can be. */
  remove(paths: readonly string[]): Promise<void>;
  /** Copies a tree with all its attributes into an existing empty directory. @throws {@link FlotillaError}; the copy is then incomplete. */
  copy(source: string, target: string): Promise<void>;
  /**
   * Copies a regular file to a place where nothing is, holes as holes and shared blocks where the file system can, and flushes it.
   *
   * @throws {@link FlotillaError}; what is at the target then is incomplete.
   */
  copyFile(source: string, target: string): Promise<void>;
}
