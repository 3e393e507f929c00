import { nsPerMs } from "#base/times.ts";
import type { Records } from "../store/records.ts";
import type { ReleaseStore } from "../store/releases.ts";
import { WriteBarrier } from "./barrier.ts";
import { type FileOwners, removeReleasedBlobs, removeReleasedMounts, removeReleasedSnapshots } from "./files.ts";
import { findUnreferenced } from "./mark.ts";
import { SliceTimer } from "./slices.ts";
import { type CollectedStores, type SweepOutcome, sweep } from "./sweep.ts";

/** What one collection came to. */
export interface CollectionOutcome {
  /** Time in ms that other calls could have had. */
  readonly busyMs: number;
  /** Whether another collection would find more to do, since files could not be removed or records were kept to be safe. */
  readonly unfinished: boolean;
  readonly removedRecords: number;
}

export interface CollectionParts {
  readonly records: Records;
  readonly releases: ReleaseStore;
  readonly stores: CollectedStores;
  readonly owners: FileOwners;
  /** Told why files stay for now. */
  readonly onFilesLeft: (error: unknown) => void;
}

/**
 * Removes the records that nothing holds alive and then the files of all that was removed, by this or by clients.
 *
 * Writers go on meanwhile. No slice of it takes longer than reading or removing a fixed number of rows.
 */
export async function collectGarbage(parts: CollectionParts): Promise<CollectionOutcome> {
  const { records, releases, owners } = parts;
  const timer = new SliceTimer();
  const { removed, kept } = await removeUnreferenced(parts, timer);
  const files = await Promise.allSettled([
    removeReleasedBlobs(records, releases, owners),
    // Mounts may be of snapshots that are released too.
    removeReleasedMounts(records, releases, owners).then(() => removeReleasedSnapshots(records, releases, owners)),
  ]);
  const failures = files.filter((outcome) => outcome.status === "rejected");
  for (const { reason } of failures) {
    parts.onFilesLeft(reason);
  }
  return { busyMs: timer.busyMs, unfinished: failures.length > 0 || kept > 0, removedRecords: removed };
}

async function removeUnreferenced({ records, stores }: CollectionParts, { pause }: SliceTimer): Promise<SweepOutcome> {
  // The barrier must see every write that the snapshot does not: no pause may come between the two.
  using barrier = new WriteBarrier(records.graph);
  const reader = records.openSnapshot();
  try {
    const nowMs = Number(records.clock() / nsPerMs);
    const unreferenced = await findUnreferenced(reader, nowMs, pause);
    reader.close();
    return await sweep(unreferenced, { records, stores, barrier }, pause);
  } finally {
    reader.close();
  }
}
