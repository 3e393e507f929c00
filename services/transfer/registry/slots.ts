import { abortReason } from "#wire/session-holder.ts";

/** A number of places, taken in the order in which they were asked for. */
export class Slots {
  #free: number;
  readonly #waiting = new Set<() => void>();

  /** @param count - 0 for as many as are wanted. */
  constructor(count: number) {
    this.#free = count === 0 ? Number.POSITIVE_INFINITY : count;
  }

  /**
   * Waits for a place. Disposing of it gives it back; twice is once.
   *
   * @throws the signal's reason.
   */
  async take(signal: AbortSignal): Promise<Disposable> {
    if (signal.aborted) {
      throw abortReason(signal);
    }
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
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#free += 1;
    } else {
      this.#waiting.delete(next);
      next();
    }
  }

  #wait(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const take = (): void => {
        signal.removeEventListener("abort", giveUp);
        resolve();
      };
      const giveUp = (): void => {
        this.#waiting.delete(take);
        reject(abortReason(signal));
      };
      this.#waiting.add(take);
      signal.addEventListener("abort", giveUp, { once: true });
    });
  }
}

/** The places of each of several things, kept as long as somebody uses them. */
export class SlotsByName {
  readonly #known = new Map<string, { readonly slots: Slots; users: number }>();

  /**
   * The places of a thing, until the handle is disposed of. Those who want another number of them share others.
   *
   * @param count - As for {@link Slots}.
   */
  use(name: string, count: number): { readonly slots: Slots } & Disposable {
    const key = `${count} ${name}`;
    const entry = this.#known.get(key) ?? { slots: new Slots(count), users: 0 };
    this.#known.set(key, entry);
    entry.users += 1;
    let isUsed = true;
    return {
      slots: entry.slots,
      [Symbol.dispose]: () => {
        entry.users -= isUsed ? 1 : 0;
        isUsed = false;
        if (entry.users === 0 && this.#known.get(key) === entry) {
          this.#known.delete(key);
        }
      },
    };
  }
}
