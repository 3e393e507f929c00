/** Names with which something is being done, by one call or by several at once. */
export class NamesInUse {
  readonly #users = new Map<string, number>();

  has(name: string): boolean {
    return this.#users.has(name);
  }

  /** Counts a name as in use for as long as a function runs. */
  async during<T>(name: string, act: () => Promise<T>): Promise<T> {
    this.#users.set(name, (this.#users.get(name) ?? 0) + 1);
    try {
      return await act();
    } finally {
      const left = (this.#users.get(name) ?? 1) - 1;
      if (left === 0) {
        this.#users.delete(name);
      } else {
        this.#users.set(name, left);
      }
    }
  }
}
