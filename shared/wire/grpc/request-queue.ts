/**
 * The messages of a client, on their way from the socket to the handler that asks for them one by one.
 *
 * While one waits, the client gets no credit for what comes behind it, so that it sends a window at most in advance.
 */
export class RequestQueue<T> implements AsyncIterableIterator<T, void> {
  readonly #decode: (message: Uint8Array) => T;
  readonly #giveCredit: (sizeBytes: number) => void;
  readonly #messages: Uint8Array[] = [];
  #waiting: PromiseWithResolvers<IteratorResult<T, void>> | undefined;
  #end: { readonly error?: unknown } | undefined;
  #owedBytes = 0;
  #takeBack: ((message: Uint8Array) => void) | undefined;
  /** The message that the handler has, if it is to be taken back. */
  #lent: Uint8Array | undefined;

  /**
   * @param decode - Reads a message when the handler gets it; what it throws is what the handler is told.
   * @param giveCredit - Lets the client send as much more.
   */
  constructor(decode: (message: Uint8Array) => T, giveCredit: (sizeBytes: number) => void) {
    this.#decode = decode;
    this.#giveCredit = giveCredit;
  }

  /** Takes the messages that were complete with a piece of that size. */
  push(messages: readonly Uint8Array[], pieceBytes: number): void {
    if (this.#end !== undefined) {
      this.#giveCredit(pieceBytes);
      return;
    }
    this.#owedBytes += pieceBytes;
    this.#messages.push(...messages);
    const waiting = this.#waiting;
    if (waiting !== undefined && this.#messages.length > 0) {
      this.#waiting = undefined;
      waiting.resolve(this.next());
    }
    this.#payCredit();
  }

  /** No more messages come. Those that wait are still handed out. */
  end(): void {
    this.#finish({});
  }

  /** No more messages come. Those that wait are still handed out, then whoever asks is told why. */
  endWith(error: unknown): void {
    this.#finish({ error });
  }

  /** No more messages come, and whoever asks for one is told why at once. */
  fail(error: unknown): void {
    this.#messages.length = 0;
    this.#finish({ error });
    this.#payCredit();
  }

  /** From now on the handler has used a message, bytes included, when it asks for the next; it is taken back then. */
  lend(takeBack: (message: Uint8Array) => void): void {
    this.#takeBack = takeBack;
  }

  async next(): Promise<IteratorResult<T, void>> {
    if (this.#lent !== undefined) {
      this.#takeBack?.(this.#lent);
      this.#lent = undefined;
    }
    const message = this.#messages.shift();
    if (message !== undefined) {
      this.#lent = this.#takeBack === undefined ? undefined : message;
      this.#payCredit();
      return { done: false, value: this.#decode(message) };
    }
    if (this.#end !== undefined) {
      if ("error" in this.#end) {
        throw this.#end.error;
      }
      return { done: true, value: undefined };
    }
    this.#waiting ??= Promise.withResolvers();
    return this.#waiting.promise;
  }

  /** The handler wants no more. What still comes is dropped, so that the answer is not cut off by a reset. */
  return(): Promise<IteratorResult<T, void>> {
    this.#messages.length = 0;
    this.#finish({});
    this.#payCredit();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #payCredit(): void {
    if (this.#messages.length === 0 && this.#owedBytes > 0) {
      const owedBytes = this.#owedBytes;
      this.#owedBytes = 0;
      this.#giveCredit(owedBytes);
    }
  }

  #finish(end: { readonly error?: unknown }): void {
    this.#end ??= end;
    const waiting = this.#waiting;
    if (waiting !== undefined) {
      this.#waiting = undefined;
      waiting.resolve(this.next());
    }
  }
}
