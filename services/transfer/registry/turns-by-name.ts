import { Turns } from "#base/turns.ts";

/** The turns of each of several things, kept as long as somebody uses them. */
export class TurnsByName {
  readonly #known = new Map<string, { readonly turns: Turns; users: number }>();

  /**
   * The turns of a thing, until the handle is disposed of. Those who want another number of them share others.
   *
   * @param limit - At a time, 0 for as many as are wanted.
   */
  use(name: string, limit: number): { readonly turns: Turns } & Disposable {
    const key = `${limit} ${name}`;
    const entry = this.#known.get(key) ?? { turns: turnsOf(limit), users: 0 };
    this.#known.set(key, entry);
    entry.users += 1;
    let isUsed = true;
    return {
      turns: entry.turns,
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

/** Turns by a limit as settings have it. @param limit - 0 for none. */
export function turnsOf(limit: number): Turns {
  return new Turns(limit === 0 ? Number.POSITIVE_INFINITY : limit);
}
