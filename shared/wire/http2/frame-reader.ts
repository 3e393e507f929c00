import { frameBytesMax } from "./limits.ts";
import { ConnectionFault, ErrorCode, Flag, FrameType, frameHeadBytes } from "./protocol.ts";

/** Takes what a {@link FrameReader} finds; the reader's `type`, `flags` and `streamId` tell of which frame. */
export interface FrameSink {
  /**
   * A whole frame other than DATA, or a padded DATA frame. It lies in one piece in `buffer`, head from `frameStart`,
   * payload from `frameStart + 9` to `frameEnd`.
   */
  onFrame(buffer: Buffer, frameStart: number, frameEnd: number): void;

  /**
   * A piece of the payload of a DATA frame without padding, as it arrived; or, of an empty frame, the empty piece.
   *
   * @param headStart - Where the frame's head begins if it stands in `chunk` right before the piece, or -1.
   * @param missingBytes - How much of the payload has yet to arrive; 0 with the last piece.
   */
  onDataPiece(chunk: Buffer, start: number, end: number, headStart: number, missingBytes: number): void;

  /**
   * Whole DATA frames of one stream that lie behind each other, without flags, heads included. A sink that passes bulk data on has this.
   *
   * @param payloadBytes - Of all of them.
   * @returns Whether it has taken them; if not, they come one by one.
   */
  onDataRun?(chunk: Buffer, start: number, end: number, payloadBytes: number): boolean;
}

/** Smaller frames are no bulk data, in which it is worth while to look for runs. */
const runFrameBytesMin = 4096;

/**
 * Cuts a byte stream into HTTP/2 frames. DATA passes in pieces as it arrives and is never joined; other frames are
 * joined only where they arrive in parts. What the sink gets belongs to it: it may write into the chunk and keep it.
 *
 * @source RFC 9113 section 4.1
 */
export class FrameReader {
  type = 0;
  flags = 0;
  streamId = 0;
  /** How much less the sink knows of every stream id. */
  idShift = 0;

  readonly #sink: FrameSink;
  #isStopped = false;
  /** Payload that is missing of the DATA frame that the last chunk began. */
  #missingDataBytes = 0;
  /** Beginning of a frame that the last chunk did not hold in full; grows to the size of the whole frame. */
  #partial: Buffer = Buffer.allocUnsafe(frameHeadBytes);
  #partialBytes = 0;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** Makes the reader ignore everything from the next frame on. */
  stop(): void {
    this.#isStopped = true;
  }

  /**
   * Reads the next chunk.
   *
   * @throws ConnectionFault when a frame is larger than allowed, and what the sink throws.
   */
  read(chunk: Buffer): void {
    if (this.#isStopped) {
      return;
    }
    let at = this.#partialBytes > 0 ? this.#completeFrame(chunk) : 0;
    const end = chunk.length;
    while (at < end && !this.#isStopped) {
      if (this.#missingDataBytes > 0) {
        const pieceEnd = Math.min(end, at + this.#missingDataBytes);
        this.#missingDataBytes -= pieceEnd - at;
        this.#sink.onDataPiece(chunk, at, pieceEnd, -1, this.#missingDataBytes);
        at = pieceEnd;
        continue;
      }
      const payloadStart = at + frameHeadBytes;
      if (payloadStart > end) {
        this.#keepPartial(chunk, at, frameHeadBytes);
        return;
      }
      const lengthBytes = this.#readHead(chunk, at);
      const frameEnd = payloadStart + lengthBytes;
      if (this.#passesInPieces) {
        const runEnd = lengthBytes < runFrameBytesMin ? at : this.#passRun(chunk, at, frameEnd);
        if (runEnd > at) {
          at = runEnd;
          continue;
        }
        const pieceEnd = Math.min(end, frameEnd);
        this.#missingDataBytes = frameEnd - pieceEnd;
        if (pieceEnd > payloadStart || lengthBytes === 0) {
          this.#sink.onDataPiece(chunk, payloadStart, pieceEnd, at, this.#missingDataBytes);
        }
        at = pieceEnd;
      } else if (frameEnd <= end) {
        this.#sink.onFrame(chunk, at, frameEnd);
        at = frameEnd;
      } else {
        this.#keepPartial(chunk, at, frameHeadBytes + lengthBytes);
        return;
      }
    }
  }

  /** Passes a frame on together with those behind it that differ in their payload alone. @returns where they end, if they have been taken. */
  #passRun(chunk: Buffer, start: number, firstEnd: number): number {
    const sink = this.#sink;
    let end = firstEnd;
    let frames = 1;
    if (sink.onDataRun === undefined || this.flags !== 0) {
      return start;
    }
    for (;;) {
      const next = end + frameHeadBytes;
      const isAlike =
        next <= chunk.length && chunk.compare(chunk, start + 3, start + frameHeadBytes, end + 3, next) === 0;
      const nextEnd = isAlike ? next + lengthOf(chunk, end) : chunk.length + 1;
      if (nextEnd > chunk.length || nextEnd - next < runFrameBytesMin || nextEnd - next > frameBytesMax) {
        break;
      }
      end = nextEnd;
      frames += 1;
    }
    const payloadBytes = end - start - frames * frameHeadBytes;
    return frames > 1 && sink.onDataRun(chunk, start, end, payloadBytes) ? end : start;
  }

  get #passesInPieces(): boolean {
    return this.type === FrameType.Data && (this.flags & Flag.Padded) === 0;
  }

  #readHead(buffer: Buffer, at: number): number {
    const lengthBytes = lengthOf(buffer, at);
    if (lengthBytes > frameBytesMax) {
      throw new ConnectionFault(
        ErrorCode.FrameSizeError,
        `frame of ${lengthBytes} bytes is larger than ${frameBytesMax}`,
      );
    }
    this.type = buffer[at + 3] as number;
    this.flags = buffer[at + 4] as number;
    const streamId =
      (((buffer[at + 5] as number) & 0x7f) << 24) |
      ((buffer[at + 6] as number) << 16) |
      ((buffer[at + 7] as number) << 8) |
      (buffer[at + 8] as number);
    this.streamId = streamId === 0 ? 0 : streamId - this.idShift;
    return lengthBytes;
  }

  #keepPartial(chunk: Buffer, start: number, wholeBytes: number): void {
    if (this.#partial.length < wholeBytes) {
      this.#partial = Buffer.allocUnsafe(wholeBytes);
    }
    this.#partialBytes = chunk.copy(this.#partial, 0, start);
  }

  /** Goes on with a frame that an earlier chunk began. Returns where the chunk's next frame, or DATA payload, begins. */
  #completeFrame(chunk: Buffer): number {
    let at = 0;
    if (this.#partialBytes < frameHeadBytes) {
      at = this.#fillPartial(chunk, at, frameHeadBytes);
      if (this.#partialBytes < frameHeadBytes) {
        return at;
      }
    }
    const lengthBytes = this.#readHead(this.#partial, 0);
    if (this.#passesInPieces) {
      this.#partialBytes = 0;
      this.#missingDataBytes = lengthBytes;
      if (lengthBytes === 0) {
        this.#sink.onDataPiece(chunk, at, at, -1, 0);
      }
      return at;
    }
    const wholeBytes = frameHeadBytes + lengthBytes;
    if (this.#partial.length < wholeBytes) {
      const larger = Buffer.allocUnsafe(wholeBytes);
      this.#partial.copy(larger, 0, 0, this.#partialBytes);
      this.#partial = larger;
    }
    at = this.#fillPartial(chunk, at, wholeBytes);
    if (this.#partialBytes === wholeBytes) {
      const whole = this.#partial;
      this.#partial = Buffer.allocUnsafe(frameHeadBytes);
      this.#partialBytes = 0;
      this.#sink.onFrame(whole, 0, wholeBytes);
    }
    return at;
  }

  #fillPartial(chunk: Buffer, at: number, untilBytes: number): number {
    const takenBytes = Math.min(chunk.length - at, untilBytes - this.#partialBytes);
    chunk.copy(this.#partial, this.#partialBytes, at, at + takenBytes);
    this.#partialBytes += takenBytes;
    return at + takenBytes;
  }
}

/** Payload of the frame whose head lies here. */
function lengthOf(buffer: Buffer, at: number): number {
  return ((buffer[at] as number) << 16) | ((buffer[at + 1] as number) << 8) | (buffer[at + 2] as number);
}
