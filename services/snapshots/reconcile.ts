import type { SnapshotIndex } from "./domain/ports.ts";
import type { Snapshotter } from "./domain/snapshotter.ts";
import type { SnapshotLocation } from "./drivers/driver.ts";

/** What was found and done at the start. */
export interface RepairedSnapshotter {
  readonly snapshotter: string;
  /** Directories that nobody knows. */
  readonly unknownIds: readonly bigint[];
  /** Where they are now; undefined when they are too many of all to be touched. */
  readonly aside: string | undefined;
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

/** The part of a snapshotter's directories that may be unknown before it looks as if the records were lost. */
const unknownShareMax = 0.5;

/**
 * Compares the directories of all snapshotters with their records: what a crash has left unmade is made, and what nobody knows is put aside.
 *
 * A directory without a record is no garbage: what is removed is noted before its record goes, and the collector deletes it. So it is
 * the records that are lost, or a directory that somebody has brought. Nothing of that is deleted; when more than half of a
 * snapshotter's directories are unknown, nothing is moved either, since containers may be running on them. Their ids are
 * never given out again in any case.
 *
 * @param proxied - Snapshotters that are somebody else's, of which there is nothing to compare.
 * @throws {@link FlotillaError} when the records cannot be had. The directories are as they were then.
 */
export async function reconcileSnapshots(
  snapshotters: ReadonlyMap<string, Snapshotter>,
  proxied: readonly string[],
  index: SnapshotIndex,
): Promise<RepairedSnapshotter[]> {
  const loaded = await Promise.all(
    [...snapshotters.values()].map(async ({ name, driver }) => ({
      name,
      ids: await driver.listIds(),
      proxied: false,
    })),
  );
  const others = proxied.map((name) => ({ name, ids: [], proxied: true }));
  const repaired: RepairedSnapshotter[] = [];
  for (const { snapshotter: name, orphanIds, missing } of await index.reconcile([...loaded, ...others])) {
    const snapshotter = snapshotters.get(name);
    if (snapshotter !== undefined) {
      const onDisk = loaded.find((other) => other.name === name)?.ids.length ?? 0;
      const isTouched = orphanIds.length > 0 && orphanIds.length <= onDisk * unknownShareMax;
      const aside = isTouched ? await snapshotter.putAside(orphanIds) : undefined;
      const made = await makeMissing(snapshotter, missing);
      repaired.push({ snapshotter: name, unknownIds: orphanIds, aside, ...made });
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
