/** Keeps work on the same thing from running at the same time, in the order of the calls. */
export class KeyedLock<K> {
  readonly #last = new Map<K, Promise<void>>();

  /** Runs a function as soon as nothing else runs that was given one of the keys. */
  async run<T>(keys: readonly K[], act: () => Promise<T>): Promise<T> {
    const before = keys.map((key) => this.#last.get(key) ?? Promise.resolve());
    const { promise, resolve } = Promise.withResolvers<void>();
    for (const key of keys) {
      this.#last.set(key, promise);
    }
    try {
      await Promise.all(before);
      return await act();
    } finally {
      resolve();
      for (const key of keys) {
        if (this.#last.get(key) === promise) {
          this.#last.delete(key);
        }
      }
    }
  }
}
