import type { PluginSettings } from "#config/settings.ts";
import type { PluginManifest } from "#fleet/manifest.ts";
import type { Mount } from "#linux/mount.ts";
import type { TreeWorkers } from "./trees.ts";
import type { SnapshotUsage } from "./usage.ts";

export type { MeasuredDirectory, SnapshotUsage } from "./usage.ts";

/**
 * # Snapshot drivers
 *
 * A driver keeps the directories of snapshots and says how to mount them. It knows ids and nothing else: names, keys, labels,
 * times, namespaces and the tree itself are records of the metadata process.
 *
 * ## Words
 *
 * - **id**: number of a snapshot, unique within a snapshotter for ever, never used again.
 * - **active**: a writable snapshot. **view**: a read-only one that is never committed. **committed**: immutable, may be a
 *   parent.
 * - **parents**: the committed ancestors, nearest first. They are there, and they stay, as long as a child has a record.
 * - **location**: id, parents, kind and labels; all that a driver is told.
 *
 * ## Life of a snapshot
 *
 * ```
 *              create            (record only)
 *   (nothing) --------> active ---------------> committed --+
 *       |                  |                                | remove
 *       |   create         +--------------------------------+-------> (nothing)
 *       +------------> view --------------------------------+
 * ```
 *
 * The record comes first and the directory second, so a directory without a record is garbage and a record without a directory
 * is made again. Commit itself touches no file (a driver may have a step before it, {@link SnapshotDriver.seal}): what was the directory of the active snapshot is the directory of the committed one.
 * Its parents may change with the commit (a rebase), which is why {@link SnapshotDriver.mounts} is always told all parents.
 *
 * ## Rules
 *
 * - `create` and `remove` may be repeated at any time, after a crash at any line in between too. What is visible under an id
 *   is complete: directories are built under another name and renamed, and renamed away before they are deleted.
 * - Two calls for the same id never run at the same time; the caller sees to that. Calls for different ids do.
 * - `mounts` is fast. `create` is fast but for drivers that copy. `seal`, `measure` and `remove` may take as long as there are files.
 * - Paths inside a snapshot belong to images and containers and are hostile: a driver follows no link in them.
 */

/** What a snapshot is. */
export type SnapshotKind = "view" | "active" | "committed";

/** Where a snapshot and its ancestors lie. */
export interface SnapshotLocation {
  readonly id: bigint;
  /** Committed ancestors, nearest first. */
  readonly parentIds: readonly bigint[];
  readonly kind: SnapshotKind;
  readonly labels: Readonly<Record<string, string>>;
}

/** The directories of one snapshotter. See the manual at the top of this file. */
export interface SnapshotDriver {
  /** Directory that holds everything of the driver. */
  readonly root: string;
  /** What clients may ask of it, as Introspection shows them: `rebase`, `remap-ids`, `only-remap-ids`. */
  readonly capabilities: readonly string[];

  /**
   * Lists the ids that have a directory, in no order. A committed snapshot that is missing here has lost its data.
   *
   * @throws {@link FlotillaError} or a system error when the directory cannot be read.
   */
  listIds(): Promise<bigint[]>;

  /**
   * Makes the directories of an active snapshot or a view. Does nothing when they are there.
   *
   * Nothing is visible under the id when it fails.
   *
   * @throws {@link FlotillaError} `not_found` when the directory of the nearest parent is gone; `invalid_argument` when labels
   *   cannot be obeyed; system errors otherwise.
   */
  create(location: SnapshotLocation): Promise<void>;

  /**
   * The mounts that show an active snapshot or a view, in the order to apply them. Some may be for the mount manager (`format/overlay`).
   *
   * @throws {@link FlotillaError} or a system error when what has to be shown is not there.
   */
  mounts(location: SnapshotLocation): Promise<Mount[]>;

  /**
   * Makes an active snapshot ready to be committed; drivers for whom there is nothing to do have no such step. It stays active, may be
   * changed and is sealed again then; what was sealed and not committed costs space until it is removed.
   *
   * @throws {@link FlotillaError} `not_found` when the snapshot has no directory; what making it ready fails with.
   */
  seal?(location: SnapshotLocation): Promise<void>;

  /**
   * Counts what a snapshot takes on disk without its parents.
   *
   * Files that come and go meanwhile are counted or not, without failure.
   *
   * @throws {@link FlotillaError} `not_found` when the snapshot has no directory.
   */
  measure(location: SnapshotLocation): Promise<SnapshotUsage>;

  /**
   * The directory whose count is what {@link measure} gives, with nothing to {@link seal}; undefined where there is more to it. Drivers that
   * never have one leave it out.
   */
  measuredDirectory?(location: SnapshotLocation): string | undefined;

  /**
   * Moves the directories of snapshots that nobody knows out of the way, for somebody to look at them. Nothing is deleted, and what is
   * mounted goes on. Those that are gone already are passed over.
   *
   * @returns The directory in which they are now, by their ids.
   * @throws A system error when a directory could not be moved.
   */
  putAside(ids: readonly bigint[]): Promise<string>;

  /**
   * Deletes the directories of snapshots. Those that are gone already are passed over.
   *
   * The ids are gone as soon as they have been renamed, even when freeing the space fails afterwards; what is left of them is
   * freed at the next start.
   *
   * @throws A system error when a directory could not be renamed or its space not be freed.
   */
  remove(ids: readonly bigint[]): Promise<void>;
}

/** A driver that can be opened. */
export interface SnapshotDriverDefinition {
  /** Of type `io.containerd.snapshotter.v1`; its id is the name of the snapshotter. It stands in `plugin.ts` beside the driver. */
  readonly manifest: PluginManifest;

  /**
   * Makes the root directory ready, deletes what a crash left half made or half removed, and checks that the machine can do
   * what the driver needs.
   *
   * @param options.root - Directory for the driver unless its settings name another one. Made if absent.
   * @param options.trees - What goes through whole trees for it.
   * @throws A skip (`skipPlugin`) when the machine cannot do it, any other error when it should but something is wrong.
   */
  open(options: {
    readonly root: string;
    readonly settings: PluginSettings;
    readonly trees: TreeWorkers;
  }): Promise<SnapshotDriver>;
}
