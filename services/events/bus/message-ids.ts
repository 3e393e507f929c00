const countMax = 16_384;

/**
 * The message ids that were stored last. The stream itself recognises an id for two minutes only, but a publisher that was down for
 * longer may have died between an append and its answer, and append the same again when it is back.
 *
 * Bounded: the newest 16,384.
 */
export class MessageIds {
  readonly #ids = new Set<string>();

  has(id: string): boolean {
    return this.#ids.has(id);
  }

  add(id: string): void {
    this.#ids.add(id);
    if (this.#ids.size > countMax) {
      const [oldest] = this.#ids;
      this.#ids.delete(oldest ?? "");
    }
  }
}
