import type { Records } from "../store/records.ts";
import type { CondemnedBlob, ReleaseStore } from "../store/releases.ts";

/** The owners of files. What is gone already is no error to them. */
export interface FileOwners {
  /**
   * Removes the files of blobs and ingests.
   *
   * @returns The digests that were confirmed and whose files are gone.
   */
  removeBlobs(digests: readonly string[], backendRefs: readonly string[]): Promise<readonly string[]>;
  /**
   * Removes the directories of snapshots, children before parents.
   *
   * @param backendNames - What a proxied snapshotter knows them by, one for each id; none for all others.
   * @returns The ids whose directories are gone.
   */
  removeSnapshots(
    snapshotter: string,
    ids: readonly bigint[],
    backendNames: readonly string[],
  ): Promise<readonly bigint[]>;
  /**
   * Takes off the mounts of activations.
   *
   * @returns The ids of which nothing is left.
   */
  removeMounts(ids: readonly bigint[]): Promise<readonly bigint[]>;
}

/** Most blobs, and most ingests, in one call. */
const blobsPerCallMax = 500;
/** How many calls for blobs are under way at once, so that their commits come together and the disk is not idle. */
const callsMax = 4;
/** Most snapshots in one call; each may hold tens of thousands of files. */
const snapshotsPerCallMax = 32;
/** Most activations of mounts in one call; each may have to write out a file system. */
const mountsPerCallMax = 32;

/**
 * Has the owner remove the files of all that was released. What it does not remove stays released. Files that were found
 * without a record go along with others, but are no reason to begin.
 *
 * @throws what a call failed with, after the others have ended.
 */
export async function removeReleasedBlobs(records: Records, releases: ReleaseStore, owners: FileOwners): Promise<void> {
  if (!releases.hasBlobsToRemove()) {
    return;
  }
  const batches = releasedBlobs(releases);
  const calls = Array.from({ length: callsMax }, async () => {
    for (const batch of batches) {
      await removeBatch(batch, records, releases, owners);
    }
  });
  for (const outcome of await Promise.allSettled(calls)) {
    if (outcome.status === "rejected") {
      throw outcome.reason;
    }
  }
}

interface ReleasedBatch {
  readonly blobs: readonly CondemnedBlob[];
  readonly backendRefs: readonly string[];
}

/** All that is released, each once, whoever takes the batches. A caller that fails takes no more and ends it for the others. */
function* releasedBlobs(releases: ReleaseStore): Generator<ReleasedBatch, undefined> {
  let afterGeneration = 0;
  let afterBackendRef = "";
  for (;;) {
    const blobs = releases.listBlobs(afterGeneration, blobsPerCallMax);
    const backendRefs = releases.listIngests(afterBackendRef, blobsPerCallMax);
    if (blobs.length === 0 && backendRefs.length === 0) {
      return;
    }
    afterGeneration = blobs.at(-1)?.generation ?? afterGeneration;
    afterBackendRef = backendRefs.at(-1) ?? afterBackendRef;
    yield { blobs, backendRefs };
  }
}

async function removeBatch(
  { blobs, backendRefs }: ReleasedBatch,
  records: Records,
  releases: ReleaseStore,
  owners: FileOwners,
): Promise<void> {
  const removed = new Set(
    await owners.removeBlobs(
      blobs.map(({ digest }) => digest),
      backendRefs,
    ),
  );
  await records.maintain(() => {
    for (const { generation, digest } of blobs) {
      if (removed.has(digest)) {
        releases.removeBlob(generation);
      }
    }
    for (const backendRef of backendRefs) {
      releases.removeIngest(backendRef);
    }
  });
}

/** The same for activations of mounts. */
export async function removeReleasedMounts(
  records: Records,
  releases: ReleaseStore,
  owners: FileOwners,
): Promise<void> {
  let afterId = 0n;
  for (;;) {
    const ids = releases.listMounts(afterId, mountsPerCallMax);
    const last = ids.at(-1);
    if (last === undefined) {
      return;
    }
    const removed = await owners.removeMounts(ids);
    await records.maintain(() => {
      for (const id of removed) {
        releases.removeMount(id);
      }
    });
    afterId = last;
  }
}

/** The same for snapshots. */
export async function removeReleasedSnapshots(
  records: Records,
  releases: ReleaseStore,
  owners: FileOwners,
): Promise<void> {
  let afterRelease = 0n;
  for (;;) {
    const listed = releases.listSnapshots(afterRelease, snapshotsPerCallMax);
    const [first] = listed;
    if (first === undefined) {
      return;
    }
    const { snapshotter } = first;
    const foreign = listed.findIndex((release) => release.snapshotter !== snapshotter);
    const batch = foreign < 0 ? listed : listed.slice(0, foreign);
    const removed = await owners.removeSnapshots(
      snapshotter,
      batch.map(({ id }) => id),
      batch.map(({ backendName }) => backendName).filter((name) => name !== ""),
    );
    await records.maintain(() => {
      for (const id of removed) {
        releases.removeSnapshot(snapshotter, id);
      }
    });
    afterRelease = batch.at(-1)?.release ?? afterRelease;
  }
}
