import { ErrorKind, type FlotillaError, failure } from "#base/errors.ts";
import type { Durability } from "./bus.ts";

/** The events of one append, and who waits for them. */
export class Batch {
  /** Events that the stream has not taken yet. */
  missing: number;
  readonly durability: Durability;
  /** The append has failed; nobody waits for these events. */
  hasFailed = false;
  readonly #done = Promise.withResolvers<void>();
  #deadline: NodeJS.Timeout | undefined;

  constructor(missing: number, durability: Durability) {
    this.missing = missing;
    this.durability = durability;
  }

  /** Settled with the first of {@link succeed} and {@link fail}. */
  get done(): Promise<void> {
    return this.#done.promise;
  }

  /** Fails with `unavailable` when it is not done in time. */
  watch(waitMsMax: number): void {
    this.#deadline = setTimeout(() => {
      this.fail(failure(ErrorKind.Unavailable, "the event stream does not answer"));
    }, waitMsMax);
  }

  succeed(): void {
    clearTimeout(this.#deadline);
    this.#done.resolve();
  }

  fail(error: FlotillaError): void {
    clearTimeout(this.#deadline);
    this.hasFailed = true;
    this.#done.reject(error);
  }
}
