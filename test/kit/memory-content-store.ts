import { ErrorKind, failure } from "#base/errors.ts";
import { type Digest, digestOf } from "#containerd/digest.ts";
import type { Labels } from "#containerd/labels.ts";
import type { ContentStore, Descriptor, Ingest, IngestRequest } from "../../services/transfer/registry/ports.ts";

interface StoredIngest {
  bytes: Buffer;
  isLocked: boolean;
}

/** A content store in memory that keeps the promises of the port, and counts what is asked of it. */
export class MemoryContentStore implements ContentStore {
  readonly blobs = new Map<Digest, { readonly bytes: Buffer; labels: Labels }>();
  readonly ingests = new Map<string, StoredIngest>();
  /** Sizes of all appended pieces. */
  readonly appended: number[] = [];
  /** Called before each append; throwing is the store's failure. */
  onAppend: (ingestBytes: number) => void = () => undefined;
  /** How long each append takes. */
  appendMs = 0;

  /** Puts bytes in as a blob. */
  add(bytes: Uint8Array | string, mediaType: string, labels: Labels = {}): Descriptor {
    const copy = Buffer.from(bytes);
    const digest = digestOf(copy);
    this.blobs.set(digest, { bytes: copy, labels });
    return { mediaType, digest, size: copy.length };
  }

  /** Puts bytes in as an ingest that somebody has left. */
  leave(ref: string, bytes: Uint8Array): void {
    this.ingests.set(ref, { bytes: Buffer.from(bytes), isLocked: false });
  }

  async openIngest({ ref, expected, totalBytes }: IngestRequest): Promise<Ingest> {
    if (this.blobs.has(expected)) {
      throw failure(ErrorKind.AlreadyExists, `content ${expected}`);
    }
    const ingest = this.ingests.get(ref) ?? { bytes: Buffer.alloc(0), isLocked: false };
    if (ingest.isLocked) {
      throw failure(ErrorKind.Unavailable, `ref ${ref} locked`);
    }
    this.ingests.set(ref, ingest);
    ingest.isLocked = true;
    return this.#open(ref, ingest, { expected, totalBytes });
  }

  async findIngestOffset(ref: string): Promise<number | undefined> {
    return this.ingests.get(ref)?.bytes.length;
  }

  async abort(ref: string): Promise<void> {
    this.ingests.delete(ref);
  }

  async *read(digest: Digest, { offset }: { readonly offset: number }): AsyncGenerator<Uint8Array> {
    const blob = this.blobs.get(digest);
    if (blob === undefined) {
      throw failure(ErrorKind.NotFound, `content ${digest}`);
    }
    for (let start = offset; start < blob.bytes.length; start += 64 * 1024) {
      yield Buffer.from(blob.bytes.subarray(start, start + 64 * 1024));
    }
  }

  async findLabels(digest: Digest): Promise<Labels | undefined> {
    return this.blobs.get(digest)?.labels;
  }

  #open(
    ref: string,
    ingest: StoredIngest,
    { expected, totalBytes }: Pick<IngestRequest, "expected" | "totalBytes">,
  ): Ingest {
    return {
      get offset() {
        return ingest.bytes.length;
      },
      append: async (data) => {
        this.onAppend(ingest.bytes.length);
        const copy = Buffer.from(data);
        if (this.appendMs > 0) {
          await new Promise((resolve) => setTimeout(resolve, this.appendMs));
        }
        this.appended.push(copy.length);
        ingest.bytes = Buffer.concat([ingest.bytes, copy]);
      },
      truncate: async () => {
        ingest.bytes = Buffer.alloc(0);
      },
      commit: async (labels) => {
        const actual = digestOf(ingest.bytes);
        if (ingest.bytes.length !== totalBytes) {
          const sizes = `unexpected commit size ${ingest.bytes.length}, expected ${totalBytes}`;
          throw failure(ErrorKind.FailedPrecondition, sizes);
        }
        if (actual !== expected) {
          throw failure(ErrorKind.FailedPrecondition, `unexpected commit digest ${actual}, expected ${expected}`);
        }
        this.blobs.set(expected, { bytes: ingest.bytes, labels });
        this.ingests.delete(ref);
      },
      close: async () => {
        ingest.isLocked = false;
      },
    };
  }
}
