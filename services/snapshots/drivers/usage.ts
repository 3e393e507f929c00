/** What a snapshot takes on disk, without its ancestors. */
export interface SnapshotUsage {
  readonly sizeBytes: bigint;
  /** Files and directories, each counted once however many names it has. */
  readonly inodes: bigint;
}

/** A directory that has been counted, by its path. */
export interface MeasuredDirectory {
  readonly root: string;
  readonly usage: SnapshotUsage;
}
