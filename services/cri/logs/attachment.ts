import { ErrorKind, failure } from "#base/errors.ts";
import type { ByteSink } from "./byte-streams.ts";

/** What waits for one client at most, in bytes; then the container waits for it. */
const waitingBytesMax = 1024 * 1024;

/** How long a container waits for a client that takes nothing, in ms; then the client is let go of. */
const stallMsMax = 10_000;

/**
 * One client that follows an output stream of a container.
 *
 * A client that is slow slows the container down, so that it misses nothing; one that takes nothing at all for some seconds is
 * let go of, so that it holds up nobody but itself.
 */
export class Attachment {
  readonly #sink: ByteSink;
  readonly #queue: Uint8Array[] = [];
  readonly #ended = Promise.withResolvers<void>();
  #waitingBytes = 0;
  #isPumping = false;
  #isClosed = false;
  #onRoom: (() => void) | undefined;
  /** Resolves when the client has got all there was, or has gone; rejects when it was let go of. */
  readonly ended: Promise<void> = this.#ended.promise;

  constructor(sink: ByteSink) {
    this.#sink = sink;
    // Who asks for the end is told of a failure; when nobody does, it is nobody's.
    this.ended.catch(() => undefined);
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Hands output on. Resolves when the container may go on; never rejects. */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.#isClosed) {
      return;
    }
    this.#queue.push(bytes);
    this.#waitingBytes += bytes.length;
    this.#pump();
    while (!this.#isClosed && this.#waitingBytes > waitingBytesMax && (await this.#roomOrStall())) {
      // Room came, and may be too little.
    }
  }

  /** Says that no more output comes, or that no more is wanted; what waits is still handed on. */
  end(): void {
    this.#isClosed = true;
    this.#pump();
    this.#onRoom?.();
  }

  /** Whether the client took something; if it did not for too long, it is let go of. */
  async #roomOrStall(): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#onRoom = () => resolve(true);
    const timer = setTimeout(() => resolve(false), stallMsMax);
    const hasMoved = await promise;
    clearTimeout(timer);
    if (!hasMoved) {
      this.#giveUp(failure(ErrorKind.DeadlineExceeded, `the client took no output for ${stallMsMax / 1000} s`));
    }
    return hasMoved;
  }

  #pump(): void {
    if (!this.#isPumping) {
      this.#isPumping = true;
      void this.#handOn();
    }
  }

  async #handOn(): Promise<void> {
    try {
      for (let bytes = this.#queue.shift(); bytes !== undefined; bytes = this.#queue.shift()) {
        await this.#sink.write(bytes);
        this.#waitingBytes -= bytes.length;
        this.#onRoom?.();
      }
    } catch {
      // The client has gone.
      this.#giveUp(undefined);
    }
    this.#isPumping = false;
    if (this.#isClosed) {
      await this.#sink.end();
      this.#ended.resolve();
    }
  }

  #giveUp(reason: Error | undefined): void {
    this.#isClosed = true;
    this.#queue.length = 0;
    this.#waitingBytes = 0;
    this.#onRoom?.();
    if (reason === undefined) {
      this.#ended.resolve();
    } else {
      this.#ended.reject(reason);
    }
  }
}
