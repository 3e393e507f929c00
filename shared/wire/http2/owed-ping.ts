import { pingAnswerMsMax } from "./limits.ts";

/**
 * The answer to a PING, which waits a little for other frames to leave with. Go's clients send a PING behind most of what they receive, to measure
 * the path, and do nothing until the answer is there: one of its own would cost a write here and a wake-up there for every call.
 */
export class OwedPing {
  readonly #answer: (opaque: Buffer) => void;
  #opaque: Buffer | undefined;
  #timer: NodeJS.Timeout | undefined;

  /** @param answer - Sends the answer. */
  constructor(answer: (opaque: Buffer) => void) {
    this.#answer = answer;
  }

  /** Takes the eight octets of a PING. One that is owed still is answered before. */
  owe(buffer: Buffer, start: number): void {
    this.pay();
    this.#opaque = Buffer.from(buffer.subarray(start, start + 8));
    this.#timer ??= setTimeout(() => this.pay(), pingAnswerMsMax).unref();
    this.#timer.refresh();
  }

  /** Answers now, if an answer is owed. */
  pay(): void {
    const opaque = this.#opaque;
    if (opaque !== undefined) {
      this.#opaque = undefined;
      this.#answer(opaque);
    }
  }

  /** There is nobody to answer any more. */
  forget(): void {
    this.#opaque = undefined;
    clearTimeout(this.#timer);
  }
}
