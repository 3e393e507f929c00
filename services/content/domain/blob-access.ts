import { ErrorKind, failure } from "#base/errors.ts";
import type { Digest } from "#containerd/digest.ts";
import type { BlobIndex, BlobRecord } from "./ports.ts";

/** Blobs that are remembered, over all namespaces. */
const rememberedMax = 16_384;

/** A number that changes before anybody is told that a record of a blob has gone; undefined when that cannot be known. */
export interface RemovalMark {
  read(): bigint | undefined;
}

interface Remembered extends BlobRecord {
  readonly mark: bigint;
}

/**
 * Which blobs a namespace may read.
 *
 * What the index has answered is remembered until any record of a blob goes: blobs never change, and a namespace never loses one in
 * another way. So what is read often costs no call.
 */
export class BlobAccess {
  readonly #index: BlobIndex;
  readonly #removals: RemovalMark;
  readonly #remembered = new Map<string, Remembered>();

  constructor(index: BlobIndex, removals: RemovalMark) {
    this.#index = index;
    this.#removals = removals;
  }

  /**
   * A blob that a namespace may read. Cost: one call at most.
   *
   * @throws {@link FlotillaError} `not_found` when the namespace does not have it, whoever else may.
   * @source containerd v2.3.4 core/metadata/content.go `checkAccess`
   */
  async get({ namespace, digest }: { readonly namespace: string; readonly digest: Digest }): Promise<BlobRecord> {
    return this.find({ namespace, digest }) ?? (await this.#ask(namespace, digest));
  }

  /** A blob that is known to be one of the namespace. */
  find({ namespace, digest }: { readonly namespace: string; readonly digest: Digest }): BlobRecord | undefined {
    const key = `${namespace}/${digest}`;
    const remembered = this.#remembered.get(key);
    if (remembered !== undefined && remembered.mark === this.#removals.read()) {
      return remembered;
    }
    this.#remembered.delete(key);
    return undefined;
  }

  async #ask(namespace: string, digest: Digest): Promise<BlobRecord> {
    // Read before the index is asked: a removal after its answer is then seen by whoever looks next.
    const mark = this.#removals.read();
    const [found] = await this.#index.resolveBlobs(namespace, [digest]);
    if (found === undefined) {
      throw failure(ErrorKind.NotFound, `content digest ${digest}`);
    }
    if (mark !== undefined) {
      this.#remember(`${namespace}/${digest}`, { ...found, mark });
    }
    return found;
  }

  #remember(key: string, blob: Remembered): void {
    this.#remembered.set(key, blob);
    const [oldest] = this.#remembered.size > rememberedMax ? this.#remembered.keys() : [];
    if (oldest !== undefined) {
      this.#remembered.delete(oldest);
    }
  }
}
