import type { Digest, DigestAlgorithm } from "#containerd/digest.ts";
import type { Labels } from "#containerd/labels.ts";
import type { CallId } from "#wire/call-id.ts";

/** An ingest as a client names it. */
export interface IngestName {
  readonly namespace: string;
  /** The client's own name; any text. */
  readonly ref: string;
}

/** A blob as a namespace has it. */
export interface BlobRecord {
  readonly digest: Digest;
  readonly sizeBytes: bigint;
}

/** What the index says about an ingest that is being opened. */
export interface OpenedIngest {
  /** Name of the ingest on disk, unique over all namespaces. */
  readonly backendRef: string;
  /** Set when the expected blob is on disk and the namespace may have it without sending a byte. */
  readonly shared: { readonly sizeBytes: bigint } | undefined;
}

/**
 * The records of namespaces, leases and labels, which another process keeps. Every method is one call.
 *
 * All methods throw {@link FlotillaError}, `unavailable` when the index cannot be reached.
 */
export interface BlobIndex {
  /**
   * Reserves a ref, or takes up the reservation that is there.
   *
   * @throws {@link FlotillaError} `already_exists` when the namespace has the expected blob; it has been leased then.
   */
  openIngest(
    request: IngestName & {
      readonly lease: string;
      readonly expected: Digest | undefined;
      readonly totalBytes: bigint;
      readonly signal: AbortSignal;
    },
  ): Promise<OpenedIngest>;
  /**
   * Makes a durable file a blob of the namespace and ends the ingest. May be repeated.
   *
   * @throws {@link FlotillaError} `already_exists` when the namespace had the blob; the ingest is ended all the same.
   */
  recordBlob(request: IngestName & BlobRecord & { readonly lease: string; readonly labels: Labels }): Promise<void>;
  /** The blobs of the namespace among those asked for. */
  resolveBlobs(namespace: string, digests: readonly Digest[]): Promise<BlobRecord[]>;
  /** The open ingests of a namespace, all or one. */
  listIngests(namespace: string, ref?: string): Promise<{ readonly ref: string; readonly backendRef: string }[]>;
  /**
   * Ends an ingest without a blob; the lease no longer holds it.
   *
   * @param ingest.call - The client's call, under which the removal is recorded once.
   * @returns Name of the ingest on disk.
   * @throws {@link FlotillaError} `not_found` when there is none of that ref.
   */
  removeIngest(ingest: IngestName & { readonly lease: string; readonly call?: CallId | undefined }): Promise<string>;
  /**
   * Those of the digests that nothing refers to. The caller holds their locks. From the answer on the index takes these
   * blobs for removed.
   */
  confirmCondemned(digests: readonly Digest[]): Promise<Digest[]>;
  /** Compares what is on disk with the records. */
  reconcile(found: FilesFound): Promise<Reconciliation>;
}

/** What lies on disk. */
export interface FilesFound {
  readonly digests: readonly Digest[];
  readonly backendRefs: readonly string[];
}

/** What is on disk without a record, and the other way round. */
export interface Reconciliation {
  /** Blobs without a record. The index asks for their removal when it asks for the next one. */
  readonly orphanDigests: readonly Digest[];
  readonly orphanBackendRefs: readonly string[];
  /** Records without a blob. */
  readonly lostDigests: readonly Digest[];
}

/** What the files of an ingest tell. Times are nanoseconds since the epoch. */
export interface IngestStatus {
  readonly startedAtNs: bigint;
  readonly updatedAtNs: bigint;
  readonly offsetBytes: bigint;
  /** What the client announced, 0 for nothing. */
  readonly totalBytes: bigint;
}

/** The ingests on disk. */
export interface IngestFiles {
  /**
   * Starts an ingest, or takes one up where it stopped. One that is damaged, or was announced with another total, is
   * started again.
   *
   * The caller holds the lock of the ingest and closes what it gets.
   *
   * @param total.totalBytes - What the client announced, 0 for nothing.
   * @param total.algorithm - What the digest is to be computed with.
   *
   * Cost: reads every byte that is there already.
   */
  open(
    backendRef: string,
    total: { readonly totalBytes: bigint; readonly algorithm: DigestAlgorithm },
  ): Promise<IngestFile>;
  /** @throws {@link FlotillaError} `not_found` when no byte of it was ever to be written. */
  getStatus(backendRef: string): Promise<IngestStatus>;
  /** Removes an ingest with all its bytes. One that is not there is no error. */
  remove(backendRef: string): Promise<void>;
  /** The names of all ingests; of those that are too damaged to have one, nothing. */
  list(): Promise<string[]>;
}

/**
 * An ingest that is open for writing. Methods must not overlap.
 *
 * After a method has thrown, only `close` may be called.
 */
export interface IngestFile {
  readonly backendRef: string;
  readonly startedAtNs: bigint;
  readonly updatedAtNs: bigint;
  /** Where the next byte goes. */
  readonly offsetBytes: bigint;
  /** What the digest is computed with. */
  readonly algorithm: DigestAlgorithm;
  /** The digest of all bytes up to the offset. */
  digest(): Digest;
  /** Appends bytes and returns when the kernel has them. */
  append(data: Uint8Array): Promise<void>;
  /** Throws all bytes away. */
  truncate(): Promise<void>;
  /** Computes the digest anew with another algorithm. Cost: reads every byte. */
  rehash(algorithm: DigestAlgorithm): Promise<void>;
  /**
   * Makes the bytes durable and read-only. When it fails, all bytes are thrown away, since nobody knows which of them
   * the disk has.
   */
  seal(): Promise<void>;
  /** Lets the file go. Unless it has been sealed, its bytes and the time are made durable first. May be called twice. */
  close(): Promise<void>;
}

/** The blobs on disk. Only {@link BlobFiles.place} makes one, so that each is complete and durable. */
export interface BlobFiles {
  /** Absolute path of the file that holds a blob, or would hold it. */
  path(digest: Digest): string;
  /**
   * Sees to it that the file of a blob is there; for stores that keep blobs elsewhere.
   *
   * @throws {@link FlotillaError} `not_found` when there is no such blob.
   */
  bring?(digest: Digest): Promise<void>;
  /** The size of a blob, or undefined when there is none. */
  findSizeBytes(digest: Digest): Promise<bigint | undefined>;
  /**
   * Makes a sealed ingest a blob by one rename, which is durable afterwards. A blob of the same size that is there stays
   * and the ingest keeps its file; one of another size is damaged and is replaced.
   *
   * The caller holds the lock of the digest.
   *
   * @returns Whether the file of the ingest was moved.
   */
  place(ingest: IngestFile, digest: Digest): Promise<boolean>;
  /** Undoes a {@link BlobFiles.place} that moved a file: the ingest has its bytes back. */
  giveBack(ingest: IngestFile, digest: Digest): Promise<void>;
  /** Removes a blob. One that is not there is no error. The caller holds the lock of the digest. */
  remove(digest: Digest): Promise<void>;
  /** The digests of all blobs. */
  list(): Promise<Digest[]>;
  /** @throws {@link FlotillaError} `not_found` when there is no such file. */
  open(digest: Digest): Promise<BlobReader>;
  /**
   * Fills a small buffer from a blob while everybody waits, which is quicker than another thread where the kernel has the bytes.
   *
   * @returns How many bytes there were; undefined while the disk is behind, when nothing is read.
   * @throws {@link FlotillaError} `not_found` when there is no such file.
   */
  readAtOnce(digest: Digest, buffer: Uint8Array, positionBytes: bigint): number | undefined;
}

/** A blob that is open for reading. */
export interface BlobReader {
  /**
   * Fills buffers, one after the other.
   *
   * @returns How many bytes there were, less than asked for only at the end of the file.
   */
  read(buffers: readonly Uint8Array[], positionBytes: bigint): Promise<number>;
  close(): Promise<void>;
}
