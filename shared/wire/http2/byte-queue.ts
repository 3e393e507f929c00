/** Pieces below this size are copied together, so that neither objects nor the buffers behind them pile up. */
const smallBytes = 2048;
const blockBytes = 4096;

/** Bytes that wait, in pieces, in their order. */
export class ByteQueue {
  readonly #pieces: Buffer[] = [];
  /** The block that the last piece is a part of and that has room behind it. */
  #block: Buffer | undefined;
  #blockUsed = 0;
  #blockStart = 0;
  #sizeBytes = 0;

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Adds bytes that the caller leaves unchanged from now on. */
  push(buffer: Buffer, start: number, end: number): void {
    if (end - start >= smallBytes) {
      this.#add(buffer.subarray(start, end));
      this.#block = undefined;
    } else {
      this.pushCopy(buffer, start, end);
    }
  }

  /** Adds a copy of bytes. */
  pushCopy(buffer: Buffer, start: number, end: number): void {
    const sizeBytes = end - start;
    if (sizeBytes === 0) {
      return;
    }
    if (this.#block !== undefined && this.#blockUsed + sizeBytes <= this.#block.length) {
      buffer.copy(this.#block, this.#blockUsed, start, end);
      this.#blockUsed += sizeBytes;
      this.#pieces[this.#pieces.length - 1] = this.#block.subarray(this.#blockStart, this.#blockUsed);
      this.#sizeBytes += sizeBytes;
      return;
    }
    // The first piece is often the only one: it gets no more room than it needs.
    const block = Buffer.allocUnsafe(this.#pieces.length === 0 ? sizeBytes : Math.max(blockBytes, sizeBytes));
    buffer.copy(block, 0, start, end);
    this.#block = block;
    this.#blockStart = 0;
    this.#blockUsed = sizeBytes;
    this.#add(block.subarray(0, sizeBytes));
  }

  /** Takes the next bytes, at most `sizeBytesMax` and not beyond a piece. The queue must not be empty. */
  take(sizeBytesMax: number): Buffer {
    const first = this.#pieces[0] as Buffer;
    const isLast = this.#pieces.length === 1;
    if (first.length <= sizeBytesMax) {
      this.#pieces.shift();
      this.#sizeBytes -= first.length;
      if (isLast) {
        this.#block = undefined;
      }
      return first;
    }
    this.#pieces[0] = first.subarray(sizeBytesMax);
    if (isLast) {
      this.#blockStart += sizeBytesMax;
    }
    this.#sizeBytes -= sizeBytesMax;
    return first.subarray(0, sizeBytesMax);
  }

  /** A queue with the same bytes, which neither queue changes from now on. */
  clone(): ByteQueue {
    const clone = new ByteQueue();
    for (const piece of this.#pieces) {
      clone.#add(piece);
    }
    return clone;
  }

  #add(piece: Buffer): void {
    this.#pieces.push(piece);
    this.#sizeBytes += piece.length;
  }
}
