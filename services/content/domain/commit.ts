import { ErrorKind, failure, isFailure } from "#base/errors.ts";
import type { KeyedLock } from "#base/keyed-lock.ts";
import { quote } from "#base/quote.ts";
import { type Digest, isDigest, splitDigest } from "#containerd/digest.ts";
import { type Labels, validateLabels } from "#containerd/labels.ts";

import type { BlobFiles, BlobIndex, BlobRecord, IngestFile, IngestName } from "./ports.ts";

/** What a client demands of a blob before anybody sees it, and says about it. */
export interface CommitRequest extends IngestName {
  /** Lease that shall hold the blob, "" for none. */
  readonly lease: string;
  /** 0 to take any size. */
  readonly sizeBytes: bigint;
  /** "" to take any digest. Text that is no digest fits no blob. */
  readonly expected: string;
  readonly labels: Labels;
}

/** What a commit works with. */
export interface CommitParts {
  readonly index: BlobIndex;
  readonly blobs: BlobFiles;
  readonly digestLocks: KeyedLock<Digest>;
}

/**
 * Turns a finished ingest into a blob of the namespace.
 *
 * When the promise resolves, the blob survives a power cut: its bytes were flushed before the rename, the directory
 * after it, and the record came last. When it rejects, nothing became visible, and the ingest has its bytes still unless
 * a flush failed or the index did not answer. A crash in between leaves an ingest, or a blob without a record that
 * reconciliation removes. The directory of the ingest is left to the caller.
 *
 * The caller holds the lock of the ingest. Two ingests with the same bytes may race: both succeed, with one file.
 *
 * @throws {@link FlotillaError}
 *   - `invalid_argument`: a label is too long.
 *   - `failed_precondition`: size or digest differ from what was demanded.
 *   - `already_exists`: the namespace had the blob. The record of the ingest is gone. Clients take this as success.
 *
 * Cost: two flushes, one rename and one call, whatever the size; the bytes are read back only when the digest is
 * demanded in another algorithm than the one that ran along.
 *
 * @source containerd v2.3.4 core/metadata/content.go `(*namespacedWriter).commit`,
 *   plugins/content/local/writer.go `(*writer).Commit`
 */
export async function commitIngest(
  parts: CommitParts,
  ingest: IngestFile,
  request: CommitRequest,
): Promise<BlobRecord> {
  validateLabels(request.labels, "info.Labels");
  const sizeBytes = ingest.offsetBytes;
  requireSize(request, sizeBytes);
  const digest = await requireDigest(ingest, request.expected);
  await ingest.seal();
  await parts.digestLocks.run([digest], async () => {
    const moved = await parts.blobs.place(ingest, digest);
    try {
      await parts.index.recordBlob({ ...request, digest, sizeBytes });
    } catch (error) {
      if (moved && isRefusal(error)) {
        await parts.blobs.giveBack(ingest, digest);
      }
      throw error;
    }
  });
  return { digest, sizeBytes };
}

/**
 * Gives the namespace a blob that another one brought, without a byte being sent.
 *
 * @param shared - The blob that the index offered when the ingest was opened; the open ingest keeps it from removal.
 * @throws {@link FlotillaError} as {@link commitIngest}; `not_found` when the file is gone, so that the client has to
 *   send it after all.
 */
export async function commitShared(
  parts: CommitParts,
  shared: BlobRecord,
  request: CommitRequest,
): Promise<BlobRecord> {
  validateLabels(request.labels, "info.Labels");
  requireSize(request, shared.sizeBytes);
  if (request.expected !== "" && request.expected !== shared.digest) {
    throw failure(ErrorKind.FailedPrecondition, `${quote(request.ref)} unexpected digest`);
  }
  await parts.digestLocks.run([shared.digest], async () => {
    if ((await parts.blobs.findSizeBytes(shared.digest)) !== shared.sizeBytes) {
      throw failure(ErrorKind.NotFound, `content ${shared.digest}`);
    }
    await parts.index.recordBlob({ ...request, ...shared });
  });
  return shared;
}

function requireSize(request: CommitRequest, sizeBytes: bigint): void {
  if (request.sizeBytes !== 0n && request.sizeBytes !== sizeBytes) {
    throw failure(
      ErrorKind.FailedPrecondition,
      `${quote(request.ref)} failed size validation: ${sizeBytes} != ${request.sizeBytes}`,
    );
  }
}

async function requireDigest(ingest: IngestFile, expected: string): Promise<Digest> {
  if (isDigest(expected)) {
    const { algorithm } = splitDigest(expected);
    if (algorithm !== ingest.algorithm) {
      await ingest.rehash(algorithm);
    }
  }
  const digest = ingest.digest();
  if (expected !== "" && expected !== digest) {
    throw failure(ErrorKind.FailedPrecondition, `unexpected commit digest ${digest}, expected ${expected}`);
  }
  return digest;
}

/** Tells whether the index has neither made the record nor had it before, so that the file may go back. */
function isRefusal(error: unknown): boolean {
  return isFailure(error) && !isFailure(error, ...mayBeRecorded);
}

const mayBeRecorded = [
  ErrorKind.AlreadyExists,
  ErrorKind.Unavailable,
  ErrorKind.Canceled,
  ErrorKind.DeadlineExceeded,
  ErrorKind.Unknown,
  ErrorKind.Internal,
];
