import type { KeyedLock } from "#base/keyed-lock.ts";
import type { Digest } from "#containerd/digest.ts";

import { removalBatchMax } from "./limits.ts";
import type { BlobFiles, BlobIndex } from "./ports.ts";

/** A digest or the backend ref of an ingest, and why its files are still there. */
export interface RemovalFailure {
  readonly what: string;
  readonly error: unknown;
}

/** What became of the blobs that were to be removed. */
export interface Removal {
  /** Those whose files are gone now, whether or not they were there before. */
  readonly removed: readonly Digest[];
  /** Blobs and ingests whose files the disk would not let go. The index asks for blobs again, the next start for ingests. */
  readonly failures: readonly RemovalFailure[];
}

/**
 * Removes the files of blobs that the index has condemned and still condemns.
 *
 * A commit of the same bytes may be under way. It holds the lock of the digest from its rename to its record; so the
 * index is asked either before the rename, and the commit places the file anew, or after the record, and says no.
 */
export async function removeBlobs(
  parts: { readonly index: BlobIndex; readonly blobs: BlobFiles; readonly digestLocks: KeyedLock<Digest> },
  digests: readonly Digest[],
): Promise<Removal> {
  const removed: Digest[] = [];
  const failures: RemovalFailure[] = [];
  for (let start = 0; start < digests.length; start += removalBatchMax) {
    const batch = digests.slice(start, start + removalBatchMax);
    await parts.digestLocks.run(batch, async () => {
      const condemned = new Set(await parts.index.confirmCondemned(batch));
      const removals = batch
        .filter((candidate) => condemned.has(candidate))
        .map((digest) =>
          parts.blobs.remove(digest).then(
            () => removed.push(digest),
            (error: unknown) => failures.push({ what: digest, error }),
          ),
        );
      await Promise.all(removals);
    });
  }
  return { removed, failures };
}
