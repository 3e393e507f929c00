import { ErrorKind } from "#base/errors.ts";
import { RegistryError } from "./registry-error.ts";

/**
 * Ends a request whose body is not taken by the other side. The times of the HTTP client begin anew with each piece that it is
 * given, and are made for the wait for an answer, which may be long.
 */
export class SendingWatch implements Disposable {
  readonly signal: AbortSignal;
  readonly #stop = new AbortController();
  readonly #noProgressMs: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(noProgressMs: number, signal: AbortSignal) {
    this.#noProgressMs = noProgressMs;
    this.signal = AbortSignal.any([signal, this.#stop.signal]);
  }

  /** Passes a body on, piece by piece, as they are asked for. */
  async *follow(body: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    for await (const piece of body) {
      this.#start();
      yield piece;
      this[Symbol.dispose]();
    }
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #start(): void {
    this.#timer = setTimeout(() => {
      const text = `no bytes taken for ${this.#noProgressMs / 1000}s: i/o timeout`;
      this.#stop.abort(new RegistryError(ErrorKind.Unknown, text, { isTransient: true }));
    }, this.#noProgressMs);
  }
}
