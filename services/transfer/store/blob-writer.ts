import { ErrorKind, isFailure } from "#base/errors.ts";
import type { Digest } from "#containerd/digest.ts";
import type { Labels } from "#containerd/labels.ts";
import { BatchedAppend } from "../registry/batched-append.ts";
import type { ContentIngest } from "./content-ingest.ts";

/** Bytes that go to the content store in one message. */
const batchBytes = 512 * 1024;

/** A blob that is being written from its beginning. */
export class BlobWriter {
  readonly #ingest: ContentIngest;
  readonly #abort: () => Promise<void>;
  readonly #batches: BatchedAppend;

  /** @param abort - Removes the ingest. */
  constructor(ingest: ContentIngest, abort: () => Promise<void>) {
    this.#ingest = ingest;
    this.#abort = abort;
    this.#batches = new BatchedAppend(ingest, batchBytes);
  }

  /** Takes bytes, which are the caller's again when it resolves. */
  append(data: Uint8Array): Promise<void> {
    return this.#batches.add(data);
  }

  /**
   * Makes it a blob.
   *
   * @returns its digest, also when it was there already.
   * @throws {@link FlotillaError} `failed_precondition` when size or digest are others than expected.
   */
  async commit(labels: Labels = {}): Promise<Digest> {
    await this.#batches.end();
    const { digest } = this.#ingest;
    try {
      await this.#ingest.commit(labels);
    } catch (error) {
      if (!isFailure(error, ErrorKind.AlreadyExists)) {
        throw error;
      }
    }
    await this.#ingest.close();
    return digest;
  }

  /** Throws it away. */
  async discard(): Promise<void> {
    await this.#batches.settle();
    await this.#ingest.close();
    await this.#abort();
  }
}
