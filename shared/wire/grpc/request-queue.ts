/**
 * The messages of a client, on their way from the socket to the handler that asks for them one by one.
 *
 * It holds what came in one read at most: it asks its source to stop whenever a message waits, and to go on when the handler
 * waits.
 */
export class RequestQueue<T> implements AsyncIterableIterator<T, void> {
  readonly #source: { pause(): void; resume(): void };
  readonly #messages: T[] = [];
  #waiting: PromiseWithResolvers<IteratorResult<T, void>> | undefined;
  #end: { readonly error?: unknown } | undefined;

  constructor(source: { pause(): void; resume(): void }) {
    this.#source = source;
  }

  push(messages: readonly T[]): void {
    if (this.#end !== undefined) {
      return;
    }
    this.#messages.push(...messages);
    const waiting = this.#waiting;
    const next = waiting === undefined ? undefined : this.#messages.shift();
    if (waiting !== undefined && next !== undefined) {
      this.#waiting = undefined;
      waiting.resolve({ done: false, value: next });
    }
    if (this.#messages.length > 0) {
      this.#source.pause();
    }
  }

  /** No more messages come. Those that wait are still handed out. */
  end(): void {
    this.#finish({});
  }

  /** No more messages come, and whoever asks for one is told why. */
  fail(error: unknown): void {
    this.#messages.length = 0;
    this.#finish({ error });
  }

  next(): Promise<IteratorResult<T, void>> {
    const message = this.#messages.shift();
    if (message !== undefined) {
      return Promise.resolve({ done: false, value: message });
    }
    if (this.#end !== undefined) {
      return "error" in this.#end ? Promise.reject(this.#end.error) : Promise.resolve({ done: true, value: undefined });
    }
    this.#waiting ??= Promise.withResolvers();
    this.#source.resume();
    return this.#waiting.promise;
  }

  /** The handler wants no more. What still comes is read and dropped, so that the answer is not cut off by a reset. */
  return(): Promise<IteratorResult<T, void>> {
    this.#messages.length = 0;
    this.#finish({});
    this.#source.resume();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #finish(end: { readonly error?: unknown }): void {
    this.#end ??= end;
    const waiting = this.#waiting;
    this.#waiting = undefined;
    if (waiting !== undefined) {
      if ("error" in this.#end) {
        waiting.reject(this.#end.error);
      } else {
        waiting.resolve({ done: true, value: undefined });
      }
    }
  }
}
