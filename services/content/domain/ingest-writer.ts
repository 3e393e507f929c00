import { ErrorKind, isFailure } from "#base/errors.ts";
import type { Clock } from "#base/times.ts";
import { canonicalAlgorithm, type Digest, isDigest, splitDigest } from "#containerd/digest.ts";
import { type CommitParts, type CommitRequest, commitIngest, commitShared } from "./commit.ts";
import type { IngestLock, OpenIngests } from "./open-ingests.ts";
import type { BlobRecord, IngestFile, IngestFiles, IngestName } from "./ports.ts";
import { plainMemory, readChunks } from "./read-range.ts";

/** What writers of ingests work with. */
export interface WriterParts extends CommitParts {
  readonly ingests: IngestFiles;
  readonly openIngests: OpenIngests;
  readonly clock: Clock;
}

/** What a client knows when it opens an ingest. */
export interface OpenRequest extends IngestName {
  /** Lease that shall hold the ingest and its blob, "" for none. */
  readonly lease: string;
  /** "" when unknown. */
  readonly expected: string;
  /** 0 when unknown. */
  readonly totalBytes: bigint;
  readonly signal: AbortSignal;
}

/**
 * Opens an ingest for writing and locks it.
 *
 * @throws {@link FlotillaError}
 *   - `already_exists`: the namespace has the expected blob; it has been added to the lease.
 *   - `unavailable`: another writer has the ingest. Go clients try again until their context ends.
 *   - `resource_exhausted`: too many ingests are open, or the disk is full.
 *
 * Cost: one call; reads every byte that a resumed ingest has.
 *
 * @source containerd v2.3.4 core/metadata/content.go `(*contentStore).Writer`
 */
export async function openIngestWriter(parts: WriterParts, request: OpenRequest): Promise<IngestWriter> {
  for (;;) {
    using opening = parts.openIngests.beginOpening(request);
    const expected = isDigest(request.expected) ? request.expected : undefined;
    const opened = await parts.index.openIngest({ ...request, expected });
    if (opening.isStale) {
      continue;
    }
    const lock = parts.openIngests.lock(opened.backendRef);
    try {
      const shared =
        expected !== undefined && opened.shared !== undefined
          ? await findShared(parts, { digest: expected, sizeBytes: opened.shared.sizeBytes })
          : undefined;
      const source =
        shared === undefined
          ? await parts.ingests.open(opened.backendRef, {
              totalBytes: request.totalBytes,
              algorithm: expected === undefined ? canonicalAlgorithm : splitDigest(expected).algorithm,
            })
          : { ...shared, openedAtNs: parts.clock() };
      return new IngestWriter(parts, { ...request, backendRef: opened.backendRef, lock }, source);
    } catch (error) {
      lock[Symbol.dispose]();
      throw error;
    }
  }
}

/** The offered blob, unless its file is gone: then the client sends the bytes, which heals it. */
async function findShared(parts: WriterParts, offered: BlobRecord): Promise<BlobRecord | undefined> {
  return (await parts.blobs.findSizeBytes(offered.digest)) === offered.sizeBytes ? offered : undefined;
}

/** How far a writer is. Times are nanoseconds since the epoch. */
export interface WriterStatus {
  readonly offsetBytes: bigint;
  readonly startedAtNs: bigint;
  readonly updatedAtNs: bigint;
}

interface Reservation extends IngestName {
  readonly lease: string;
  readonly backendRef: string;
  readonly lock: IngestLock;
}

interface SharedSource extends BlobRecord {
  readonly openedAtNs: bigint;
}

/**
 * One client's hold of one ingest. Methods must not overlap; after one has thrown, only `close` may be called.
 *
 * A writer of a blob that another namespace brought stands at its end and holds no file. Only when the client writes all
 * the same does it get an ingest of its own, with a copy of these bytes.
 */
export class IngestWriter {
  readonly #parts: WriterParts;
  readonly #reservation: Reservation;
  #source: IngestFile | SharedSource;
  #hasEnded = false;

  constructor(parts: WriterParts, reservation: Reservation, source: IngestFile | SharedSource) {
    this.#parts = parts;
    this.#reservation = reservation;
    this.#source = source;
  }

  get status(): WriterStatus {
    const source = this.#source;
    return isShared(source)
      ? { offsetBytes: source.sizeBytes, startedAtNs: source.openedAtNs, updatedAtNs: source.openedAtNs }
      : source;
  }

  /** The digest of all bytes up to the offset. */
  digest(): Digest {
    return isShared(this.#source) ? this.#source.digest : this.#source.digest();
  }

  /** Appends bytes and returns when the kernel has them. */
  async append(data: Uint8Array): Promise<void> {
    if (isShared(this.#source)) {
      this.#source = await this.#unshare(this.#source);
    }
    await this.#source.append(data);
  }

  /** Throws all bytes away. */
  async truncate(): Promise<void> {
    if (isShared(this.#source)) {
      this.#source = await this.#openFile(this.#source);
    }
    await this.#source.truncate();
  }

  /** Makes the ingest a blob; see {@link commitIngest}. The files of the ingest are gone afterwards. */
  async commit(request: Pick<CommitRequest, "sizeBytes" | "expected" | "labels">): Promise<void> {
    const { namespace, ref, lease } = this.#reservation;
    const commit = { namespace, ref, lease, ...request };
    try {
      await (isShared(this.#source)
        ? commitShared(this.#parts, this.#source, commit)
        : commitIngest(this.#parts, this.#source, commit));
    } catch (error) {
      if (isFailure(error, ErrorKind.AlreadyExists)) {
        await this.#removeFiles();
      }
      throw error;
    }
    await this.#removeFiles();
  }

  /** Ends the ingest without a blob: record and bytes. */
  async abort(): Promise<void> {
    await this.#closeFile();
    await this.#parts.index.removeIngest(this.#reservation);
    await this.#removeFiles();
  }

  /**
   * Lets the ingest go. What has been written is durable then and may be taken up later. May be called twice.
   *
   * The lock is given up even when the flush fails.
   */
  async close(): Promise<void> {
    using lock = this.#reservation.lock;
    await this.#closeFile();
    if (lock.isAbandoned && !this.#hasEnded) {
      await this.#parts.ingests.remove(this.#reservation.backendRef);
    }
  }

  async #closeFile(): Promise<void> {
    if (!isShared(this.#source)) {
      await this.#source.close();
    }
  }

  async #removeFiles(): Promise<void> {
    this.#hasEnded = true;
    this.#parts.openIngests.markEnded(this.#reservation);
    await this.#parts.ingests.remove(this.#reservation.backendRef);
  }

  #openFile({ digest }: SharedSource): Promise<IngestFile> {
    const { algorithm } = splitDigest(digest);
    return this.#parts.ingests.open(this.#reservation.backendRef, { totalBytes: 0n, algorithm });
  }

  async #unshare(shared: SharedSource): Promise<IngestFile> {
    const file = await this.#openFile(shared);
    // From here on the writer closes the file, also when the copy fails.
    this.#source = file;
    await file.truncate();
    const reader = await this.#parts.blobs.open(shared.digest);
    const range = { startBytes: 0n, lengthBytes: shared.sizeBytes };
    for await (const { memory, lengthBytes } of readChunks(reader, range, plainMemory)) {
      for (const bytes of memory.views(lengthBytes)) {
        await file.append(bytes);
      }
    }
    return file;
  }
}

function isShared(source: IngestFile | SharedSource): source is SharedSource {
  return "openedAtNs" in source;
}
