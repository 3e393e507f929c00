import type { CallId } from "#wire/call-id.ts";
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
  /** The client's call, under which the change is recorded once; undefined for our own. */
  readonly call?: CallId | undefined;
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
  /** As in {@link NewSnapshot}. */
  readonly call?: CallId | undefined;
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
  /** Whether somebody else keeps its snapshots. */
  readonly proxied: boolean;
}

/** What differs between the directories and the records of one snapshotter. */
export interface SnapshotRepair {
  readonly snapshotter: string;
  /** Directories without a record. */
  readonly orphanIds: readonly bigint[];
  /** Records without a directory. */
  readonly missing: readonly SnapshotLocation[];
}

/** A snapshot of a proxied snapshotter, in its words. */
export interface ProxiedRecord {
  readonly kind: SnapshotKind;
  /** What the snapshotter knows it by. */
  readonly backendName: string;
  /** What it knows the nearest ancestor by, or "". */
  readonly backendParent: string;
  readonly id: bigint;
}

/** A name that was given out for a snapshot to be. It counts as released until the snapshot is recorded. */
export type SnapshotReservation = Omit<ProxiedRecord, "kind">;

/** The records of snapshots of snapshotters that are somebody else's. All of it throws {@link FlotillaError}. */
export interface ProxiedSnapshotIndex {
  /** Gives a name out. `already_exists`: as {@link SnapshotIndex.prepare}. */
  reserve(snapshot: NewSnapshot): Promise<SnapshotReservation>;
  /** Records what the snapshotter has for a reservation. */
  record(
    snapshot: Omit<NewSnapshot, "kind"> & { readonly kind: SnapshotKind },
    reservation: SnapshotReservation,
  ): Promise<void>;
  /** Looks up a snapshot. */
  find(name: SnapshotName): Promise<ProxiedRecord>;
  /** Records that an active snapshot is committed, and under which name. */
  commit(commit: SnapshotCommit, backendName: string): Promise<void>;
  /** Removes the record of a snapshot. */
  remove(name: SnapshotName): Promise<void>;
  /** Those of the ids that nobody has recorded. */
  confirmReleased(snapshotter: string, ids: readonly bigint[]): Promise<readonly bigint[]>;
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
