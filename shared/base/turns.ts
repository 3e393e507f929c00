/** Lets a bounded number of works run at the same time; the others wait for their turn, first come first served. */
export class Turns {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  /** @param limit - `Infinity` for none. */
  constructor(limit: number) {
    this.#free = limit;
  }

  /**
   * Runs a work when its turn has come.
   *
   * @param signal - Ends the waiting, with its reason; not the work.
   */
  async run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const turn = await this.take(signal);
    try {
      return await work();
    } finally {
      turn[Symbol.dispose]();
    }
  }

  /**
   * Waits for a turn, which ends when it is disposed of; twice is once.
   *
   * @param signal - As for {@link run}.
   */
  async take(signal?: AbortSignal): Promise<Disposable> {
    signal?.throwIfAborted();
    if (this.#free > 0) {
      this.#free -= 1;
    } else {
      await this.#wait(signal);
    }
    let isTaken = true;
    return {
      [Symbol.dispose]: () => {
        if (isTaken) {
          isTaken = false;
          this.#giveBack();
        }
      },
    };
  }

  #giveBack(): void {
    const next = this.#waiting.shift();
    if (next === undefined) {
      this.#free += 1;
    } else {
      next();
    }
  }

  async #wait(signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const giveUp = (): void => {
      const place = this.#waiting.indexOf(resolve);
      if (place >= 0) {
        this.#waiting.splice(place, 1);
        reject(signal?.reason as Error);
      }
    };
    this.#waiting.push(resolve);
    signal?.addEventListener("abort", giveUp, { once: true });
    try {
      await promise;
    } finally {
      signal?.removeEventListener("abort", giveUp);
    }
  }
}
