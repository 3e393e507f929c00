import { ByteQueue } from "#wire/http2/byte-queue.ts";
import type { DataSink, DataSource, HeaderBytes, WindowWaiter } from "#wire/http2/data-flow.ts";
import type { FrameWriter } from "#wire/http2/frame-writer.ts";
import { frameBytesMax } from "#wire/http2/limits.ts";

/**
 * One way of a relayed stream: what arrives at the source goes to the sink as far as the sink's windows allow, and waits
 * here otherwise.
 *
 * Flow control is end to end. The receiver gives `sendWindowBytes`; the relay passes on to the sender only what the
 * receiver has given and what is not spoken for, so that
 * `receiveWindowBytes + waiting bytes <= sendWindowBytes` whenever the relay gives anything. A receiver that takes back a
 * part of its window makes the left side larger for a while: then bytes wait here, at most as many as the sender was
 * once allowed, and nothing more is given until they are gone.
 */
export class Direction implements WindowWaiter {
  readonly streamId: number;
  /** Whether credit is passed on at once, or only when the sender has shown that it sends more than one piece. */
  readonly #passesCreditAtOnce: boolean;
  source: DataSource | undefined;
  sink: DataSink | undefined;
  /** What the receiver allows to be sent on the stream; negative after it took back more than was left. */
  sendWindowBytes = 0;
  /** What the sender may still send on the stream. */
  receiveWindowBytes = 0;
  /** Whether the sender's END_STREAM has arrived. */
  isEnded = false;
  isEndSent = false;
  isWaitingForWindow = false;
  #isDiscarded = false;
  #hasReceived = false;
  #queue: ByteQueue | undefined;
  /** How much of what waits came from a source that is gone, so that nobody wants credit for it. */
  #orphanedBytes = 0;
  #trailers: HeaderBytes | undefined;

  constructor(streamId: number, options: { readonly passesCreditAtOnce: boolean }) {
    this.streamId = streamId;
    this.#passesCreditAtOnce = options.passesCreditAtOnce;
  }

  get waitingBytes(): number {
    return this.#queue === undefined ? 0 : this.#queue.sizeBytes;
  }

  /** Whether nothing but END_STREAM has yet to be sent. */
  get hasOnlyEnd(): boolean {
    return this.isEnded && this.waitingBytes === 0 && this.#trailers === undefined;
  }

  /**
   * Takes a piece of a DATA frame from the sender; the parameters are those of `FrameSink.onDataPiece`.
   *
   * @param isLast - Whether the piece ends the direction.
   */
  pass(chunk: Buffer, start: number, end: number, headStart: number, missingBytes: number, isLast: boolean): void {
    const sizeBytes = end - start;
    this.receiveWindowBytes -= sizeBytes;
    this.isEnded = isLast;
    this.#hasReceived = true;
    const sink = this.sink;
    if (
      sink !== undefined &&
      this.waitingBytes === 0 &&
      sizeBytes <= this.sendWindowBytes &&
      sizeBytes <= sink.sendWindowBytes
    ) {
      this.sendWindowBytes -= sizeBytes;
      sink.sendWindowBytes -= sizeBytes;
      forwardPiece(sink.writer, this.streamId, { chunk, start, end, headStart, missingBytes, isLast });
      this.source?.returnCredit(sizeBytes, sink);
      if (isLast) {
        this.isEndSent = true;
        sink.endSent(this.streamId);
      }
    } else if (this.#isDiscarded) {
      this.source?.returnCredit(sizeBytes, undefined);
    } else {
      this.#queue ??= new ByteQueue();
      const held = this.source?.holdChunk();
      if (held?.isReused === true) {
        this.#queue.pushCopy(chunk, start, end);
        held.release();
      } else {
        this.#queue.push(chunk, start, end);
      }
      this.flow();
    }
    this.passCredit();
  }

  /** Whether bytes would go on as they come. */
  canPass(sizeBytes: number): boolean {
    const { sink } = this;
    const isOpen = sink !== undefined && !this.isEnded && this.waitingBytes === 0;
    return isOpen && sizeBytes <= Math.min(this.sendWindowBytes, sink.sendWindowBytes, this.receiveWindowBytes);
  }

  /** Takes whole DATA frames that {@link canPass}; the parameters are those of `FrameSink.onDataRun`. */
  passRun(chunk: Buffer, start: number, end: number, payloadBytes: number): void {
    const sink = this.sink as DataSink;
    this.receiveWindowBytes -= payloadBytes;
    this.sendWindowBytes -= payloadBytes;
    sink.sendWindowBytes -= payloadBytes;
    this.#hasReceived = true;
    sink.writer.placeStreamIds(chunk, start, end, this.streamId);
    sink.writer.appendData(chunk, start, end);
    this.source?.returnCredit(payloadBytes, sink);
    this.passCredit();
  }

  /** Takes the sender's trailers, which end the direction. The bytes stay as they are from now on. */
  passTrailers(block: HeaderBytes): void {
    this.isEnded = true;
    this.#trailers = block;
    this.flow();
  }

  /** Takes the sender's END_STREAM without anything else. */
  passEnd(): void {
    this.isEnded = true;
    this.flow();
  }

  /** Adds bytes that the relay itself sends. */
  append(bytes: Buffer): void {
    this.#queue ??= new ByteQueue();
    this.#queue.push(bytes, 0, bytes.length);
  }

  /** Begins anew with bytes that are to be sent to another sink. */
  rewind(bytes: ByteQueue): void {
    this.sink = undefined;
    this.isEndSent = false;
    this.isWaitingForWindow = false;
    this.#queue = bytes;
  }

  /** The source is gone, and another will go on behind what waits. */
  orphan(): void {
    this.source = undefined;
    this.#orphanedBytes = this.waitingBytes;
  }

  /** Takes bytes from the sender that the receiver has got already, and that nobody sees therefore. */
  skip(sizeBytes: number): void {
    this.receiveWindowBytes -= sizeBytes;
    this.source?.returnCredit(sizeBytes, undefined);
    this.passCredit();
  }

  /** Forgets all that came from the source and has not been sent, as if nothing had come. */
  restart(sink: DataSink): void {
    const waitingBytes = this.waitingBytes;
    this.#queue = undefined;
    this.#trailers = undefined;
    this.isEnded = false;
    this.sink = sink;
    if (waitingBytes > 0) {
      this.source?.returnCredit(waitingBytes, undefined);
    }
  }

  /** The receiver changed its window. */
  widen(incrementBytes: number): void {
    this.sendWindowBytes += incrementBytes;
    if (incrementBytes > 0) {
      this.flow();
      this.passCredit();
    }
  }

  /** Tells the sender what the receiver has allowed beyond what the sender knows. */
  passCredit(): void {
    const incrementBytes = this.sendWindowBytes - this.waitingBytes - this.receiveWindowBytes;
    const isWanted = !this.isEnded && (this.#passesCreditAtOnce || this.#hasReceived);
    if (incrementBytes > 0 && isWanted && this.source !== undefined && this.sink !== undefined) {
      this.receiveWindowBytes += incrementBytes;
      this.source.writer.windowUpdate(this.streamId, incrementBytes);
    }
  }

  /**
   * Sends what waits, as far as the windows allow.
   *
   * @param turnBytes - How much may be sent before other streams have their turn.
   */
  flow(turnBytes = Number.POSITIVE_INFINITY): void {
    const sink = this.sink;
    if (sink === undefined || this.isEndSent) {
      return;
    }
    const queue = this.#queue;
    if (queue !== undefined && queue.sizeBytes > 0) {
      this.#sendWaiting(queue, sink, turnBytes);
      if (queue.sizeBytes > 0) {
        if (this.sendWindowBytes > 0) {
          sink.waitForWindow(this);
        }
        return;
      }
      this.#queue = undefined;
    }
    if (this.isEnded && !this.isEndSent) {
      this.isEndSent = true;
      if (this.#trailers === undefined) {
        sink.writer.dataHead(this.streamId, 0, true);
      } else {
        sink.sendHeaders(this.streamId, this.#trailers, true);
      }
    }
    if (this.isEndSent) {
      sink.endSent(this.streamId);
    }
  }

  /** Throws away what waits and what will come. */
  discard(): void {
    this.#isDiscarded = true;
    this.sink = undefined;
    const waitingBytes = this.waitingBytes;
    this.#queue = undefined;
    this.#trailers = undefined;
    this.#returnCredit(waitingBytes, undefined);
  }

  /** Gives the source credit for what waited, as far as it is the source's. */
  #returnCredit(sizeBytes: number, sink: DataSink | undefined): void {
    const orphanedBytes = Math.min(sizeBytes, this.#orphanedBytes);
    this.#orphanedBytes -= orphanedBytes;
    if (sizeBytes > orphanedBytes) {
      this.source?.returnCredit(sizeBytes - orphanedBytes, sink);
    }
  }

  #sendWaiting(queue: ByteQueue, sink: DataSink, turnBytes: number): void {
    let leftBytes = turnBytes;
    while (queue.sizeBytes > 0) {
      const allowedBytes = Math.min(leftBytes, this.sendWindowBytes, sink.sendWindowBytes, frameBytesMax);
      if (allowedBytes <= 0) {
        return;
      }
      const piece = queue.take(allowedBytes);
      const isLast = this.isEnded && queue.sizeBytes === 0 && this.#trailers === undefined;
      leftBytes -= piece.length;
      this.sendWindowBytes -= piece.length;
      sink.sendWindowBytes -= piece.length;
      sink.writer.dataHead(this.streamId, piece.length, isLast);
      sink.writer.appendData(piece, 0, piece.length);
      this.#returnCredit(piece.length, sink);
      this.isEndSent = isLast;
    }
  }
}

interface Piece {
  readonly chunk: Buffer;
  readonly start: number;
  readonly end: number;
  readonly headStart: number;
  readonly missingBytes: number;
  readonly isLast: boolean;
}

/**
 * Sends a piece as a frame of its own, so that the connection is never in the middle of a frame. Where the frame's head
 * stands before the piece, it is made to fit in place, and head and piece go on as they lie.
 */
function forwardPiece(writer: FrameWriter, streamId: number, piece: Piece): void {
  const { chunk, start, end, headStart, missingBytes, isLast } = piece;
  if (headStart < 0) {
    writer.dataHead(streamId, end - start, isLast);
    writer.appendData(chunk, start, end);
    return;
  }
  if (missingBytes > 0) {
    const sizeBytes = end - start;
    chunk[headStart] = sizeBytes >> 16;
    chunk[headStart + 1] = sizeBytes >> 8;
    chunk[headStart + 2] = sizeBytes;
    chunk[headStart + 4] = 0;
  }
  writer.placeStreamId(chunk, headStart, streamId);
  writer.appendData(chunk, headStart, end);
}
