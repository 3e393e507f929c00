/**
 * Allows something a number of times at once and then at a rate: a token bucket.
 */
export class FloodBudget {
  readonly #burst: number;
  readonly #perMs: number;
  #left: number;
  #refilledAtMs = performance.now();

  constructor(burst: number, perSecond: number) {
    this.#burst = burst;
    this.#perMs = perSecond / 1000;
    this.#left = burst;
  }

  /** Takes some; false when there are not so many left. */
  spend(count: number): boolean {
    if (this.#left < count) {
      const nowMs = performance.now();
      this.#left = Math.min(this.#burst, this.#left + (nowMs - this.#refilledAtMs) * this.#perMs);
      this.#refilledAtMs = nowMs;
    }
    this.#left -= count;
    return this.#left >= 0;
  }

  /** Gives some back, since what was taken came with something useful. */
  earn(count: number): void {
    this.#left = Math.min(this.#burst, this.#left + count);
  }
}
