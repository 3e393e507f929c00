import type { Digest } from "#oci/digest.ts";
import type { DigestLocks } from "./digest-locks.ts";
import { removalBatchMax } from "./limits.ts";
import type { BlobFiles } from "./ports.ts";

/** Says which of some digests may still go. It is asked while they are locked. */
export type RemovalCheck = (digests: readonly Digest[]) => Promise<readonly Digest[]>;

/**
 * Removes the files of blobs that nothing refers to.
 *
 * A commit of the same bytes may be under way. It holds the lock of the digest from its rename to its record; so the
 * check comes either before the rename, and the commit places the file anew, or after the record, and says no.
 *
 * @returns The digests whose files are gone now, whether or not they were there before.
 */
export async function removeBlobs(
  parts: { readonly blobs: BlobFiles; readonly digestLocks: DigestLocks },
  digests: readonly Digest[],
  check: RemovalCheck,
): Promise<Digest[]> {
  const removed: Digest[] = [];
  for (let start = 0; start < digests.length; start += removalBatchMax) {
    const batch = digests.slice(start, start + removalBatchMax);
    await parts.digestLocks.whileHeld(batch, async () => {
      const condemned = new Set(await check(batch));
      for (const digest of batch.filter((candidate) => condemned.has(candidate))) {
        await parts.blobs.remove(digest);
        removed.push(digest);
      }
    });
  }
  return removed;
}
