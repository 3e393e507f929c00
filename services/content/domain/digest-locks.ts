import type { Digest } from "#containerd/digest.ts";

/**
 * One lock for each digest, so that a blob is not removed between the rename that places it and the record that tells
 * of it. Waiters get it in the order in which they came.
 */
export class DigestLocks {
  /** The end of the last holder's time, by digest. */
  readonly #tails = new Map<Digest, Promise<void>>();

  /**
   * Does some work under the locks of some digests: waits for them, takes them, and gives them up when the work has
   * ended one way or the other. They are taken in an order in which two callers cannot wait for each other.
   *
   * @param work - Takes bounded time, and no other locks.
   */
  async whileHeld<T>(digests: readonly Digest[], work: () => Promise<T>): Promise<T> {
    const releases: (() => void)[] = [];
    try {
      for (const digest of [...new Set(digests)].sort()) {
        releases.push(await this.#acquire(digest));
      }
      return await work();
    } finally {
      for (const release of releases) {
        release();
      }
    }
  }

  async #acquire(digest: Digest): Promise<() => void> {
    const before = this.#tails.get(digest);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#tails.set(digest, promise);
    await before;
    return () => {
      if (this.#tails.get(digest) === promise) {
        this.#tails.delete(digest);
      }
      resolve();
    };
  }
}
