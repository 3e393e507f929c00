import type { ByteSource } from "../logs/byte-streams.ts";

/** What a client sent ahead on one stream, at most, before the connection is read no further. */
const waitingBytesMax = 256 * 1024;

/** What a piece costs besides its bytes, about: a client may send them one by one. */
const pieceBytes = 256;

/** Bytes that a client has sent on one stream and that nobody has taken yet. */
export class ReceiveQueue implements ByteSource {
  readonly #waiting: Uint8Array[] = [];
  readonly #onRoom: () => void;
  #waitingBytes = 0;
  #hasEnded = false;
  #isDiscarding = false;
  #onChange: (() => void) | undefined;

  /** @param onRoom - Called when a queue that was full is so no more. */
  constructor(onRoom: () => void) {
    this.#onRoom = onRoom;
  }

  get isFull(): boolean {
    return this.#waitingBytes >= waitingBytesMax;
  }

  put(bytes: Uint8Array): void {
    if (this.#hasEnded || this.#isDiscarding || bytes.length === 0) {
      return;
    }
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length + pieceBytes;
    this.#onChange?.();
  }

  /** No more comes; what waits is still there to be taken. */
  end(): void {
    this.#hasEnded = true;
    this.#onChange?.();
  }

  /** Nobody takes anything any more: what waits and what comes is forgotten. */
  discard(): void {
    this.#isDiscarding = true;
    this.#waiting.length = 0;
    this.#took(this.#waitingBytes);
    this.#onChange?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        const bytes = this.#waiting.shift();
        if (bytes !== undefined) {
          this.#took(bytes.length + pieceBytes);
          yield bytes;
        } else if (this.#hasEnded || this.#isDiscarding) {
          return;
        } else {
          await new Promise<void>((resolve) => {
            this.#onChange = resolve;
          });
        }
      }
    } finally {
      this.discard();
    }
  }

  #took(bytes: number): void {
    const wasFull = this.isFull;
    this.#waitingBytes -= bytes;
    if (wasFull && !this.isFull) {
      this.#onRoom();
    }
  }
}
