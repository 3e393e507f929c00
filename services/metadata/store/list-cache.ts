import { encodeRecords } from "#wire/encoded-records.ts";

/** Most bytes of lists that one cache keeps. Lists beyond are put together anew for each call. */
const cachedBytesMax = 16 * 1024 * 1024;

/**
 * Whole lists of a kind of resources, encoded as clients get them, until one of their records changes. They are always right, since
 * this process alone writes, and no call comes between a change and its commit.
 */
export class ListCache {
  readonly #lists = new Map<string, Uint8Array>();
  #sizeBytes = 0;

  /**
   * The encoded list of a namespace.
   *
   * @param load - Reads the encoded records when they are not known.
   */
  get(namespace: string, load: () => readonly Uint8Array[]): Uint8Array {
    const known = this.#lists.get(namespace);
    if (known !== undefined) {
      return known;
    }
    const list = encodeRecords(load());
    // Namespaces need not exist, so that keeping empty lists would keep every name that was ever asked for.
    if (list.byteLength === 0 || list.byteLength > cachedBytesMax) {
      return list;
    }
    for (const other of this.#lists.keys()) {
      if (this.#sizeBytes + list.byteLength > cachedBytesMax) {
        this.drop(other);
      }
    }
    this.#lists.set(namespace, list);
    this.#sizeBytes += list.byteLength;
    return list;
  }

  /** Forgets the list of a namespace, in the change that makes it wrong. */
  drop(namespace: string): void {
    this.#sizeBytes -= this.#lists.get(namespace)?.byteLength ?? 0;
    this.#lists.delete(namespace);
  }
}
