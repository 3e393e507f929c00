import { ErrorKind, failure } from "#base/errors.ts";
import type { Batch } from "./batch.ts";

/** Flushes for all appends that wait at a time, so that many share the cost. */
export class Flushes {
  readonly #flush: () => Promise<void>;
  /** Taken by the stream, but not flushed yet. */
  #waiting: Batch[] = [];
  #isFlushing = false;

  /** @param flush - Makes what the stream has taken survive a power cut. One call at a time. */
  constructor(flush: () => Promise<void>) {
    this.#flush = flush;
  }

  /** Ends an append whose events the stream has taken when they are durable. It fails with `unavailable` when they cannot be made so. */
  add(batch: Batch): void {
    this.#waiting.push(batch);
    if (!this.#isFlushing) {
      this.#isFlushing = true;
      void this.#run();
    }
  }

  async #run(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batches = this.#waiting;
      this.#waiting = [];
      try {
        await this.#flush();
        for (const batch of batches) {
          batch.succeed();
        }
      } catch (error) {
        for (const batch of batches) {
          batch.fail(failure(ErrorKind.Unavailable, "the event stream is not durable", { cause: error }));
        }
      }
    }
    this.#isFlushing = false;
  }
}
