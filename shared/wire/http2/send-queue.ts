import type { FrameWriter } from "./frame-writer.ts";
import type { QueuedPiece } from "./queued-piece.ts";

/** Bytes of a stream that wait to be sent, in the pieces in which they came. */
export class SendQueue {
  #pieces: QueuedPiece[] = [];
  /** How much of the first piece has been sent. */
  #firstAt = 0;
  sizeBytes = 0;

  /** Adds a piece. */
  push(piece: QueuedPiece): void {
    this.#pieces.push(piece);
    this.sizeBytes += piece.end - piece.start;
  }

  /**
   * Gives the next bytes to a writer, as a frame of a stream.
   *
   * @param bytesMax - How many there may be, one at least.
   * @param endsWithLast - Whether the last bytes that wait end the stream.
   * @returns How many it were.
   */
  sendFrame(bytesMax: number, streamId: number, endsWithLast: boolean, writer: FrameWriter): number {
    const first = this.#pieces[0];
    const firstBytes = first === undefined ? 0 : first.end - first.start - this.#firstAt;
    const sizeBytes = Math.min(bytesMax, first?.isSpaced === true ? firstBytes : this.sizeBytes);
    const isLast = endsWithLast && sizeBytes === this.sizeBytes;
    if (first?.isSpaced === true && this.#firstAt === 0 && sizeBytes === firstBytes) {
      writer.spacedData(streamId, first, isLast);
      this.#pieces.shift();
      this.sizeBytes -= sizeBytes;
    } else {
      writer.dataHead(streamId, sizeBytes, isLast);
      this.#send(sizeBytes, writer);
    }
    return sizeBytes;
  }

  /** Throws away what waits. */
  clear(): void {
    this.#pieces = [];
    this.#firstAt = 0;
    this.sizeBytes = 0;
  }

  #send(sizeBytes: number, writer: FrameWriter): void {
    this.sizeBytes -= sizeBytes;
    for (let neededBytes = sizeBytes; neededBytes > 0; ) {
      const { memory, start, end } = this.#pieces[0] as QueuedPiece;
      const from = start + this.#firstAt;
      const taken = Math.min(neededBytes, end - from);
      writer.appendData(memory, from, from + taken);
      neededBytes -= taken;
      this.#firstAt += taken;
      if (from + taken === end) {
        this.#pieces.shift();
        this.#firstAt = 0;
      }
    }
  }
}
