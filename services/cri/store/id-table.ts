import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";

/** Things by their id, which callers may cut short as long as it means one of them. */
export class IdTable<T extends { readonly id: string }> {
  readonly #items = new Map<string, T>();

  /** Puts something in. @throws {@link FlotillaError} `already_exists` */
  add(item: T): void {
    if (this.#items.has(item.id)) {
      throw failure(ErrorKind.AlreadyExists, item.id);
    }
    this.#items.set(item.id, item);
  }

  /**
   * Finds something by its id or by the beginning of it.
   *
   * @throws {@link FlotillaError} `not_found`, also for ""; `unknown` when several begin so.
   * @source containerd v2.3.4 internal/truncindex/truncindex.go `Get`
   */
  get(id: string): T {
    const item = this.find(id);
    if (item === undefined) {
      throw new FlotillaError(ErrorKind.NotFound, ErrorKind.NotFound);
    }
    return item;
  }

  /** The same, or undefined where there is nothing. @throws {@link FlotillaError} `unknown` when several begin so. */
  find(id: string): T | undefined {
    const exact = this.#items.get(id);
    if (exact !== undefined || id === "") {
      return exact;
    }
    let found: T | undefined;
    for (const [key, item] of this.#items) {
      if (key.startsWith(id)) {
        if (found !== undefined) {
          throw new FlotillaError(ErrorKind.Unknown, `multiple IDs found with provided prefix: ${quote(id)}`);
        }
        found = item;
      }
    }
    return found;
  }

  /** All, oldest first. */
  all(): T[] {
    return [...this.#items.values()];
  }

  /** Takes something out by its whole id; tells whether it was there. */
  delete(id: string): boolean {
    return this.#items.delete(id);
  }
}
