import type { Labels } from "#containerd/labels.ts";

/** On whose behalf content is read and written. */
export interface ContentOwner {
  readonly namespace: string;
  /** Lease that shall hold what is written, "" for none. */
  readonly lease: string;
  readonly signal: AbortSignal;
}

/** What a differ asks of the processes that keep blobs. */
export interface BlobStore {
  /**
   * Where the immutable file of a blob lies.
   *
   * @throws {@link FlotillaError} `not_found`
   */
  locate(owner: ContentOwner, digest: string): Promise<string>;
  /**
   * Writes a new blob. What an ingest of that ref has already is thrown away. When it fails the ingest stays, without lock.
   *
   * @param labels - Called after the last byte.
   * @throws {@link FlotillaError} `unavailable` when somebody else is writing to the ref; what `bytes` throws.
   */
  write(owner: ContentOwner, ref: string, bytes: AsyncIterable<Uint8Array>, labels: () => Labels): Promise<WrittenBlob>;
  /** Throws an ingest away. */
  abort(owner: ContentOwner, ref: string): Promise<void>;
  /** Gives a blob a label unless it has one of that key. */
  addLabel(owner: ContentOwner, digest: string, key: string, value: string): Promise<void>;
}

export interface WrittenBlob {
  readonly digest: string;
  readonly sizeBytes: bigint;
  /** The namespace had the blob before; its labels are what they were. */
  readonly existed: boolean;
}
