import type { FrameWriter } from "./frame-writer.ts";

/** Bytes of a stream that wait to be sent, in the pieces in which they came. */
export class SendQueue {
  #pieces: Buffer[] = [];
  /** How much of the first piece has been sent. */
  #firstAt = 0;
  sizeBytes = 0;

  /** Adds bytes, which nobody changes until they are sent. */
  push(bytes: Buffer): void {
    this.#pieces.push(bytes);
    this.sizeBytes += bytes.length;
  }

  /** Gives the next bytes to a writer; as many must be there. */
  send(sizeBytes: number, writer: FrameWriter): void {
    this.sizeBytes -= sizeBytes;
    for (let neededBytes = sizeBytes; neededBytes > 0; ) {
      const piece = this.#pieces[0] as Buffer;
      const taken = Math.min(neededBytes, piece.length - this.#firstAt);
      writer.appendData(piece, this.#firstAt, this.#firstAt + taken);
      neededBytes -= taken;
      this.#firstAt += taken;
      if (this.#firstAt === piece.length) {
        this.#pieces.shift();
        this.#firstAt = 0;
      }
    }
  }

  /** Throws away what waits. */
  clear(): void {
    this.#pieces = [];
    this.#firstAt = 0;
    this.sizeBytes = 0;
  }
}
