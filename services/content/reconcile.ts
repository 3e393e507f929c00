import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { removeIngestFiles } from "./domain/ingest-status.ts";
import type { WriterParts } from "./domain/ingest-writer.ts";
import type { Reconciliation } from "./domain/ports.ts";

/** How long to wait before the index is asked again after it could not be reached. */
const retryMs = 500;

/**
 * Compares the files with the records, before the process takes calls, and removes ingests that have no record. They hold
 * nothing that a client could still get at.
 *
 * A crash between a rename and its record leaves a blob that nobody knows. The index condemns it and has it removed with
 * the next blobs that it collects, by the same call as those. A record without a blob stays: a pull or an import brings
 * the bytes back.
 *
 * @param signal - Ends the wait for an index that cannot be reached.
 * @returns What was found.
 * @throws what `signal` was aborted with.
 *
 * Cost: one call that lists every blob.
 */
export async function reconcileFiles(parts: WriterParts, signal: AbortSignal): Promise<Reconciliation> {
  const found = { digests: await parts.blobs.list(), backendRefs: await parts.ingests.list() };
  for (;;) {
    try {
      const reconciliation = await parts.index.reconcile(found);
      for (const backendRef of reconciliation.orphanBackendRefs) {
        await removeIngestFiles(parts, backendRef);
      }
      return reconciliation;
    } catch (error) {
      if (!isFailure(error, ErrorKind.Unavailable)) {
        throw error;
      }
      await delay(retryMs, undefined, { signal });
    }
  }
}
