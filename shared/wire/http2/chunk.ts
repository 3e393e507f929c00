/** Smaller chunks are left to the garbage collector. */
const releasedBytesMin = 8 * 1024;

/**
 * A chunk that a socket gave, until nothing refers to it any more; then its memory is given back at once.
 *
 * Bulk data makes 64 KiB of garbage with every read. Left to the garbage collector, that costs more than everything else
 * that is done with it, and tens of megabytes of memory.
 */
export class Chunk {
  readonly bytes: Buffer;
  /** Who still needs the bytes; the reader of the chunk is the first. */
  #holders = 1;

  private constructor(bytes: Buffer) {
    this.bytes = bytes;
  }

  /** Takes charge of bytes, or returns undefined if they are too few or share their memory with others. */
  static tryOwn(bytes: Buffer): Chunk | undefined {
    const { buffer, byteLength } = bytes;
    const isOwner = buffer instanceof ArrayBuffer && buffer.byteLength === byteLength;
    return isOwner && byteLength >= releasedBytesMin ? new Chunk(bytes) : undefined;
  }

  /** Keeps the bytes until as many more releases. */
  hold(): void {
    this.#holders += 1;
  }

  /** One holder less; after the last the bytes are gone. */
  release(): void {
    this.#holders -= 1;
    if (this.#holders === 0 && this.bytes.buffer instanceof ArrayBuffer) {
      this.bytes.buffer.transfer(0);
    }
  }
}
