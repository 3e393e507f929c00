import type { SnapshotIndex } from "./domain/ports.ts";
import type { Snapshotter } from "./domain/snapshotter.ts";
import type { SnapshotLocation } from "./drivers/driver.ts";

/** What was found and done at the start. */
export interface RepairedSnapshotter {
  readonly snapshotter: string;
  /** Directories that had no record, and are gone. */
  readonly removedIds: readonly bigint[];
  /** Active snapshots and views whose directories were missing, and are there, empty. */
  readonly madeIds: readonly bigint[];
  /** Snapshots that cannot be had any more: committed ones without data, and others that could not be made. */
  readonly lost: readonly LostSnapshot[];
}

/** A snapshot that is recorded and has no data. */
export interface LostSnapshot {
  readonly location: SnapshotLocation;
  /** Why it could not be made; undefined for a committed one, which nobody can make. */
  readonly error?: unknown;
}

/**
 * Compares the directories of all snapshotters with their records and makes them agree: what has no record is deleted, what a
 * crash has left unmade is made.
 *
 * @throws {@link FlotillaError} when the records cannot be had. The directories are as they were then.
 */
export async function reconcileSnapshots(
  snapshotters: ReadonlyMap<string, Snapshotter>,
  index: SnapshotIndex,
): Promise<RepairedSnapshotter[]> {
  const loaded = await Promise.all(
    [...snapshotters.values()].map(async ({ name, driver }) => ({ name, ids: await driver.listIds() })),
  );
  const repaired: RepairedSnapshotter[] = [];
  for (const { snapshotter: name, orphanIds, missing } of await index.reconcile(loaded)) {
    const snapshotter = snapshotters.get(name);
    if (snapshotter !== undefined) {
      const removedIds = await snapshotter.removeDirectories(orphanIds);
      repaired.push({ snapshotter: name, removedIds, ...(await makeMissing(snapshotter, missing)) });
    }
  }
  return repaired;
}

async function makeMissing(
  snapshotter: Snapshotter,
  missing: readonly SnapshotLocation[],
): Promise<Pick<RepairedSnapshotter, "madeIds" | "lost">> {
  const madeIds: bigint[] = [];
  const lost: LostSnapshot[] = [];
  for (const location of missing) {
    if (location.kind === "committed") {
      lost.push({ location });
      continue;
    }
    try {
      await snapshotter.create(location);
      madeIds.push(location.id);
    } catch (error) {
      lost.push({ location, error });
    }
  }
  return { madeIds, lost };
}
