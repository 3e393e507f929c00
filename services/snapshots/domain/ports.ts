import type { SnapshotKind, SnapshotLocation, SnapshotUsage } from "../drivers/driver.ts";

/** A snapshot as a client names it: by its key while it is active, by its name once it is committed. */
export interface SnapshotName {
  readonly namespace: string;
  readonly snapshotter: string;
  readonly key: string;
}

/** A snapshot to be. */
export interface NewSnapshot extends SnapshotName {
  /** Lease that shall hold it; "" for none. */
  readonly lease: string;
  /** Name of a committed snapshot; "" for none. */
  readonly parent: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly kind: Exclude<SnapshotKind, "committed">;
}

/** An active snapshot that is to be committed. */
export interface SnapshotCommit extends SnapshotName {
  /** Lease that shall hold the committed snapshot; "" for none. */
  readonly lease: string;
  /** Name of the committed snapshot. */
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Parent to put the snapshot on if it has none; "" to keep it. */
  readonly parent: string;
}

/** A record of a snapshot. */
export interface SnapshotRecord {
  readonly location: SnapshotLocation;
  /** As stored at commit; undefined for active snapshots and views. */
  readonly usage: SnapshotUsage | undefined;
}

/** What one snapshotter has on disk. */
export interface LoadedSnapshotter {
  readonly name: string;
  readonly ids: readonly bigint[];
}

/** What differs between the directories and the records of one snapshotter. */
export interface SnapshotRepair {
  readonly snapshotter: string;
  /** Directories without a record. */
  readonly orphanIds: readonly bigint[];
  /** Records without a directory. */
  readonly missing: readonly SnapshotLocation[];
}

/** The records of snapshots, which the metadata process keeps. All of it throws {@link FlotillaError}. */
export interface SnapshotIndex {
  /** Records a new snapshot. `already_exists`: the key is taken, or the snapshot that the labels aim at is there. */
  prepare(snapshot: NewSnapshot): Promise<SnapshotLocation>;
  /** Looks up a snapshot. */
  resolve(name: SnapshotName): Promise<SnapshotRecord>;
  /** Records that an active snapshot is committed. */
  commit(commit: SnapshotCommit, usage: SnapshotUsage | undefined): Promise<void>;
  /** Removes the record of a snapshot. */
  remove(name: SnapshotName): Promise<void>;
  /** Says which snapshotters are there from now on, with what they have on disk. */
  reconcile(loaded: readonly LoadedSnapshotter[]): Promise<SnapshotRepair[]>;
}
