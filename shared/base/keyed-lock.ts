/**
 * Keeps work on the same thing from running at the same time, in the order of the calls.
 *
 * All keys of a call are taken at once, so that two calls never wait for each other.
 */
export class KeyedLock<K> {
  readonly #last = new Map<K, Promise<void>>();

  /**
   * Runs a function as soon as nothing else runs that was given one of the keys.
   *
   * @param signal - Ends the waiting, with its reason; not the function.
   */
  async run<T>(keys: readonly K[], act: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted();
    const turn = Promise.all(keys.map((key) => this.#last.get(key) ?? Promise.resolve()));
    const { promise, resolve } = Promise.withResolvers<void>();
    for (const key of keys) {
      this.#last.set(key, promise);
    }
    const finish = (): void => {
      resolve();
      for (const key of keys) {
        if (this.#last.get(key) === promise) {
          this.#last.delete(key);
        }
      }
    };
    try {
      await (signal === undefined ? turn : untilAborted(turn, signal));
      return await act();
    } finally {
      // Who gives up early still holds the place, so that those behind do not overtake those before.
      void turn.then(finish);
    }
  }
}

async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const giveUp = (): void => reject(signal.reason as Error);
  signal.addEventListener("abort", giveUp, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener("abort", giveUp);
  }
}
