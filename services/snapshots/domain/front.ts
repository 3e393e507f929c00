import type { Mount } from "#linux/mount.ts";
import type { MeasuredDirectory, SnapshotUsage } from "../drivers/driver.ts";
import type { NewSnapshot, SnapshotCommit, SnapshotName } from "./ports.ts";

/** A snapshot whose record is gone and whose data is to go. */
export interface ReleasedSnapshot {
  readonly id: bigint;
  /** What a proxied snapshotter knows it by; "" for our own. */
  readonly backendName: string;
}

/** A snapshotter as clients and the unpacking of layers see it, whoever keeps the file systems. All of it throws {@link FlotillaError}. */
export interface SnapshotterFront {
  readonly name: string;
  /** Whether a snapshot of a layer may be made without its parent and get it when it is committed. */
  readonly canRebase: boolean;
  /** Makes an active snapshot or a view. @param signal - Ends the waiting, not what is being made. */
  prepare(snapshot: NewSnapshot, signal?: AbortSignal): Promise<readonly Mount[]>;
  /** The mounts of an active snapshot or a view. */
  mounts(name: SnapshotName, signal?: AbortSignal): Promise<readonly Mount[]>;
  /**
   * Does what the commit of an active snapshot would do first, for one that nobody changes any more; for those that rebase. May be left out.
   *
   * @param measured - A directory that has been counted since it was changed last.
   */
  settle(name: SnapshotName, measured?: MeasuredDirectory): Promise<void>;
  /** Turns an active snapshot into a committed one. */
  commit(commit: SnapshotCommit): Promise<void>;
  /** What a snapshot takes on disk without its parents. */
  usage(name: SnapshotName, signal?: AbortSignal): Promise<SnapshotUsage>;
  /** Whether there is a committed snapshot of that name. */
  isCommitted(name: SnapshotName): Promise<boolean>;
  /** The mounts that a view of a committed snapshot would have, with nothing made for it; for those that rebase. */
  viewCommitted(name: SnapshotName): Promise<readonly Mount[]>;
  /** Removes the record of a snapshot; the collector frees what it takes. One that is not there is no error. */
  remove(name: SnapshotName): Promise<void>;
  /** Frees what released snapshots take, children before parents. @returns the ids of which nothing is left. */
  removeReleased(released: readonly ReleasedSnapshot[]): Promise<readonly bigint[]>;
}

/** Snapshotters by name. */
export type SnapshotterFronts = ReadonlyMap<string, SnapshotterFront>;
