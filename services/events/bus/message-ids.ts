const countMax = 16_384;

/**
 * The message ids that were stored last. The stream itself recognises an id for two minutes only, but a publisher that was down for
 * longer may have died between an append and its answer, and append the same again when it is back.
 *
 * Bounded: the newest 16,384.
 */
export class MessageIds {
  readonly #known = new Set<string>();
  /** The same ids, the oldest at the place that is overwritten next. */
  readonly #ring: string[] = [];
  #next = 0;

  has(id: string): boolean {
    return this.#known.has(id);
  }

  add(id: string): void {
    if (this.#known.has(id)) {
      return;
    }
    const oldest = this.#ring[this.#next];
    if (oldest !== undefined) {
      this.#known.delete(oldest);
    }
    this.#known.add(id);
    this.#ring[this.#next] = id;
    this.#next = (this.#next + 1) % countMax;
  }
}
