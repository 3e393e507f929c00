import { ErrorKind, isFailure } from "#base/errors.ts";
import type { Digest } from "#containerd/digest.ts";
import type { Labels } from "#containerd/labels.ts";
import type { ContentIngest } from "./content-ingest.ts";

/** Bytes that go to the content store in one message. */
const batchBytes = 512 * 1024;

/** A blob that is being written from its beginning. */
export class BlobWriter {
  readonly #ingest: ContentIngest;
  readonly #abort: () => Promise<void>;
  readonly #batch = Buffer.allocUnsafe(batchBytes);
  #filled = 0;

  /** @param abort - Removes the ingest. */
  constructor(ingest: ContentIngest, abort: () => Promise<void>) {
    this.#ingest = ingest;
    this.#abort = abort;
  }

  /** Takes bytes, which are the caller's again when it resolves. */
  async append(data: Uint8Array): Promise<void> {
    for (let offset = 0; offset < data.length; ) {
      const length = Math.min(data.length - offset, batchBytes - this.#filled);
      this.#batch.set(data.subarray(offset, offset + length), this.#filled);
      this.#filled += length;
      offset += length;
      if (this.#filled === batchBytes) {
        await this.#flush();
      }
    }
  }

  /**
   * Makes it a blob.
   *
   * @returns its digest, also when it was there already.
   * @throws {@link FlotillaError} `failed_precondition` when size or digest are others than expected.
   */
  async commit(labels: Labels = {}): Promise<Digest> {
    await this.#flush();
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
    await this.#ingest.close();
    await this.#abort();
  }

  async #flush(): Promise<void> {
    if (this.#filled > 0) {
      await this.#ingest.append(this.#batch.subarray(0, this.#filled));
      this.#filled = 0;
    }
  }
}
