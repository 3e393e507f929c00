/** Smaller chunks are left to the garbage collector. */
const releasedBytesMin = 8 * 1024;

/**
 * Bytes that came from a socket by one read, until nothing refers to them any more; then their memory is given back at once.
 *
 * Bulk data makes 64 KiB of garbage with every read. Left to the garbage collector, that costs more than everything else
 * that is done with it, and tens of megabytes of memory.
 */
export class Chunk {
  readonly bytes: Buffer;
  /** Whether the memory will hold other bytes after the last release. Who would hold it long copies what it needs instead. */
  readonly isReused: boolean;
  readonly #free: () => void;
  /** Who still needs the bytes; the reader of the chunk is the first. */
  #holders = 1;

  /** @param free - Takes the memory back; called once. */
  constructor(bytes: Buffer, isReused: boolean, free: () => void) {
    this.bytes = bytes;
    this.isReused = isReused;
    this.#free = free;
  }

  /** Takes charge of bytes, or returns undefined if they are too few or share their memory with others. */
  static tryOwn(bytes: Buffer): Chunk | undefined {
    const { buffer, byteLength } = bytes;
    if (!(buffer instanceof ArrayBuffer) || buffer.byteLength !== byteLength || byteLength < releasedBytesMin) {
      return undefined;
    }
    return new Chunk(bytes, false, () => void buffer.transfer(0));
  }

  /** Keeps the bytes until as many more releases. */
  hold(): void {
    this.#holders += 1;
  }

  /** One holder less; after the last the bytes are gone. */
  release(): void {
    this.#holders -= 1;
    if (this.#holders === 0) {
      this.#free();
    }
  }
}
