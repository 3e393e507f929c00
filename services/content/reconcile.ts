import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, isFailure } from "#base/errors.ts";
import type { Digest } from "#oci/digest.ts";
import { removeIngestFiles } from "./domain/ingest-status.ts";
import type { WriterParts } from "./domain/ingest-writer.ts";
import type { Reconciliation } from "./domain/ports.ts";
import { removeBlobs } from "./domain/removal.ts";

/** How long to wait before the index is asked again after it could not be reached. */
const retryMs = 1_000;

/** What a reconciliation came to. */
export interface ReconcileReport {
  /** Blobs that had no record and were removed. */
  readonly removedDigests: readonly Digest[];
  /** Names on disk of ingests that had no record and were removed. */
  readonly removedBackendRefs: readonly string[];
}

/**
 * Compares the files with the records and removes what has no record. It runs beside ordinary work.
 *
 * A crash between a rename and its record leaves a blob that nobody knows. Whether the record was still on its way when
 * this process started cannot be told, so such a blob is left alone for a while and is removed if it has no record then,
 * under its lock, so that no commit comes in between.
 *
 * @param options.graceMs - How long files without a record are left alone.
 * @param options.onLost - Told of records whose blob is gone. They stay: a pull or an import brings the bytes back.
 * @throws what `options.signal` was aborted with.
 *
 * Cost: two calls that list every blob when there is something to remove, and one otherwise.
 */
export async function reconcileFiles(
  parts: WriterParts,
  options: {
    readonly graceMs: number;
    readonly signal: AbortSignal;
    readonly onLost: (digests: readonly Digest[]) => void;
  },
): Promise<ReconcileReport> {
  const { graceMs, signal, onLost } = options;
  const first = await compare(parts, signal);
  const lost = await findLost(parts, first.lostDigests);
  if (lost.length > 0) {
    onLost(lost);
  }
  if (first.orphanDigests.length === 0 && first.orphanBackendRefs.length === 0) {
    return { removedDigests: [], removedBackendRefs: [] };
  }
  await delay(graceMs, undefined, { signal, ref: false });
  const stillOrphans = async (): Promise<readonly Digest[]> => (await compare(parts, signal)).orphanDigests;
  return {
    removedDigests: await removeBlobs(parts, first.orphanDigests, stillOrphans),
    removedBackendRefs: await removeIngests(parts, first.orphanBackendRefs, signal),
  };
}

async function compare(parts: WriterParts, signal: AbortSignal): Promise<Reconciliation> {
  for (;;) {
    signal.throwIfAborted();
    try {
      return await parts.index.reconcile({
        digests: await parts.blobs.list(),
        backendRefs: await parts.ingests.list(),
      });
    } catch (error) {
      if (!isFailure(error, ErrorKind.Unavailable)) {
        throw error;
      }
      await delay(retryMs, undefined, { signal, ref: false });
    }
  }
}

/** A blob that was committed after the files had been listed only seems to be lost. */
async function findLost(parts: WriterParts, digests: readonly Digest[]): Promise<Digest[]> {
  const lost: Digest[] = [];
  for (const digest of digests) {
    if ((await parts.blobs.findSizeBytes(digest)) === undefined) {
      lost.push(digest);
    }
  }
  return lost;
}

async function removeIngests(
  parts: WriterParts,
  backendRefs: readonly string[],
  signal: AbortSignal,
): Promise<string[]> {
  const orphans = new Set((await compare(parts, signal)).orphanBackendRefs);
  const removed = backendRefs.filter((backendRef) => orphans.has(backendRef));
  for (const backendRef of removed) {
    await removeIngestFiles(parts, backendRef);
  }
  return removed;
}
