import { createHash } from "node:crypto";
import { type Digest, splitDigest } from "#containerd/digest.ts";

/** Where the parts of one ingest lie. */
export interface IngestPaths {
  readonly directory: string;
  /** The bytes. */
  readonly data: string;
  /** The name of the ingest, as text. */
  readonly ref: string;
  /** When it was begun, as RFC 3339 text. */
  readonly startedAt: string;
  /** When a writer let go of it, as RFC 3339 text. */
  readonly updatedAt: string;
  /** The announced size, as decimal text; absent when none was announced. */
  readonly total: string;
}

/**
 * The layout of a content directory, which is containerd's own, so that either can take up what the other left.
 *
 * Names of ingests come from clients and may hold anything; only their hash becomes part of a path.
 *
 * @source containerd v2.3.4 plugins/content/local/store.go `blobPath`, `ingestRoot`
 */
export class ContentLayout {
  readonly root: string;
  readonly blobs: string;
  readonly ingests: string;

  /** @param root - Absolute path. */
  constructor(root: string) {
    this.root = root;
    this.blobs = `${root}/blobs`;
    this.ingests = `${root}/ingest`;
  }

  blob(digest: Digest): string {
    const { algorithm, encoded } = splitDigest(digest);
    return `${this.blobs}/${algorithm}/${encoded}`;
  }

  /** The directory of all blobs of a digest's algorithm. */
  blobDirectory(digest: Digest): string {
    return `${this.blobs}/${splitDigest(digest).algorithm}`;
  }

  ingest(backendRef: string): IngestPaths {
    const directory = `${this.ingests}/${createHash("sha256").update(backendRef).digest("hex")}`;
    return {
      directory,
      data: `${directory}/data`,
      ref: `${directory}/ref`,
      startedAt: `${directory}/startedat`,
      updatedAt: `${directory}/updatedat`,
      total: `${directory}/total`,
    };
  }
}
