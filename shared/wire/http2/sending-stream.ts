import type { MessageLimits } from "../message-limits.ts";
import type { DataSink, DataSource, DrainWaiter, HeaderBytes, WindowWaiter } from "./data-flow.ts";
import { frameBytesMax } from "./limits.ts";
import type { QueuedPiece } from "./queued-piece.ts";
import { SendQueue } from "./send-queue.ts";

/** Pieces that leave at once, so that the peer can begin with them while more is made. */
const flushedBytesMin = 64 * 1024;

/** The connection that a stream of a server or a client belongs to. */
export interface EndpointConnection extends DataSink, DataSource {
  readonly isClosed: boolean;
  /** How large the messages of its streams may be. */
  readonly messageLimits: MessageLimits;
  /** What the call of a stream is known by; undefined where nobody has named the connection. */
  callIdOf(streamId: number): string | undefined;
  /** Writes what was collected. */
  flush(): void;
  /** Calls {@link DrainWaiter.socketDrained} when everything is written. */
  waitForDrain(stream: DrainWaiter): void;
  /** The stream is over on both sides, or reset. */
  streamOver(stream: { readonly id: number }): void;
  /** Tells the peer that a stream is over before its time, and forgets it. */
  resetStream(stream: { readonly id: number }, code: number): void;
}

/** What one stream of a server or a client sends: it waits here for the peer's windows. */
export abstract class SendingStream implements WindowWaiter, DrainWaiter {
  readonly id: number;
  protected readonly connection: EndpointConnection;
  sendWindowBytes: number;
  isWaitingForWindow = false;
  /** Whether our END_STREAM has been sent. */
  isEndSent = false;
  /** Whether the stream is over, so that nothing can be sent and nothing comes. */
  isOver = false;
  #queue: SendQueue | undefined;
  #endsBehindQueue = false;
  /** Whether bytes wait that will be somebody else's once they are written. */
  #isBorrowing = false;
  #trailers: HeaderBytes | undefined;

  constructor(id: number, connection: EndpointConnection, sendWindowBytes: number) {
    this.id = id;
    this.connection = connection;
    this.sendWindowBytes = sendWindowBytes;
  }

  /** Whether so much waits that more should be made only when it has drained. */
  get isSlow(): boolean {
    return this.#isBorrowing || this.#waitingBytes > 0 || this.connection.writer.isSlow;
  }

  /** Sends header fields that do not end the stream. Nothing may have been sent before them but such fields. */
  sendHeaders(block: HeaderBytes): void {
    if (!this.isOver) {
      this.connection.sendHeaders(this.id, block, false);
    }
  }

  /** Tells where what is sent next begins. Nothing may wait. */
  sendResumePoint(point: string): void {
    if (!this.isOver) {
      this.connection.writer.resumePoint(this.id, point);
    }
  }

  /** Sends the fields that end the stream, behind what waits. */
  endWithHeaders(block: HeaderBytes): void {
    if (this.isOver || this.isEndSent) {
      return;
    }
    if (this.#waitingBytes > 0) {
      this.#trailers = block;
      this.#endsBehindQueue = true;
    } else {
      this.connection.sendHeaders(this.id, block, true);
      this.#endSent();
    }
  }

  /** Sends bytes, which nobody changes from now on. */
  write(bytes: Buffer): void {
    const sizeBytes = bytes.length;
    if (this.#canSendAtOnce(sizeBytes)) {
      const { connection } = this;
      this.sendWindowBytes -= sizeBytes;
      connection.sendWindowBytes -= sizeBytes;
      connection.writer.dataHead(this.id, sizeBytes, false);
      connection.writer.appendData(bytes, 0, sizeBytes);
      if (connection.writer.isSlow && this.hasMore) {
        connection.waitForDrain(this);
      }
    } else {
      this.#push(bytes);
      this.#sendSoon(sizeBytes);
    }
  }

  /** Sends pieces that belong together, such as a prefix and its message. */
  writeAll(pieces: readonly Buffer[]): void {
    let sizeBytes = 0;
    for (const bytes of pieces) {
      this.#push(bytes);
      sizeBytes += bytes.length;
    }
    this.#sendSoon(sizeBytes);
  }

  /** Sends pieces that may be changed again when they have drained, and not before. */
  writeBorrowed(pieces: readonly Buffer[]): void {
    this.#isBorrowing = true;
    this.writeAll(pieces);
  }

  /** Sends pieces that lie in memory with room for the heads of frames, as borrowed ones. */
  writeSpaced(pieces: readonly QueuedPiece[]): void {
    this.#isBorrowing = true;
    let sizeBytes = 0;
    for (const piece of pieces) {
      this.#enqueue(piece);
      sizeBytes += piece.end - piece.start;
    }
    this.#sendSoon(sizeBytes);
  }

  /** Sends the last bytes, which nobody changes from now on, and ends what is sent with them. */
  endWith(bytes: Buffer): void {
    this.#push(bytes);
    this.end();
  }

  /** Ends what is sent. */
  end(): void {
    if (this.isOver || this.isEndSent) {
      return;
    }
    this.#endsBehindQueue = true;
    if (this.#waitingBytes > 0) {
      this.flow();
    } else {
      this.connection.writer.dataHead(this.id, 0, true);
      this.#endSent();
    }
  }

  widen(incrementBytes: number): void {
    this.sendWindowBytes += incrementBytes;
    if (incrementBytes > 0 && this.#waitingBytes > 0) {
      this.flow();
    }
  }

  changeInitialWindow(differenceBytes: number): void {
    this.widen(differenceBytes);
  }

  socketDrained(): void {
    if (!this.isOver && this.#waitingBytes === 0) {
      this.drained();
    }
  }

  flow(turnBytes = Number.POSITIVE_INFINITY): void {
    const { connection } = this;
    let leftBytes = turnBytes;
    while (this.#queue !== undefined && this.#queue.sizeBytes > 0) {
      const allowedBytes = Math.min(leftBytes, this.sendWindowBytes, connection.sendWindowBytes, frameBytesMax);
      if (allowedBytes <= 0) {
        if (this.sendWindowBytes > 0) {
          connection.waitForWindow(this);
        }
        return;
      }
      const endsWithLast = this.#endsBehindQueue && this.#trailers === undefined;
      const sizeBytes = this.#queue.sendFrame(allowedBytes, this.id, endsWithLast, connection.writer);
      leftBytes -= sizeBytes;
      this.sendWindowBytes -= sizeBytes;
      connection.sendWindowBytes -= sizeBytes;
      if (endsWithLast && this.#queue.sizeBytes === 0) {
        this.#endSent();
      }
    }
    this.#queueSent();
  }

  /** Whether anybody makes more when what waits has drained. */
  protected abstract get hasMore(): boolean;
  /** What had to wait has been sent. */
  protected abstract drained(): void;
  /** Both sides have ended the stream, perhaps. */
  protected abstract finish(): void;

  /** Throws away what waits. */
  protected dropWaiting(): void {
    this.#queue?.clear();
    this.#trailers = undefined;
  }

  get #waitingBytes(): number {
    return this.#queue === undefined ? 0 : this.#queue.sizeBytes;
  }

  /** Whether bytes can go out by one frame without having waited. */
  #canSendAtOnce(sizeBytes: number): boolean {
    return (
      !this.isOver &&
      !this.isEndSent &&
      this.#waitingBytes === 0 &&
      sizeBytes > 0 &&
      sizeBytes <= frameBytesMax &&
      sizeBytes <= this.sendWindowBytes &&
      sizeBytes <= this.connection.sendWindowBytes
    );
  }

  /** Called when nothing waits any more. */
  #queueSent(): void {
    if (this.#isBorrowing) {
      this.connection.writer.afterWrite(() => {
        this.#isBorrowing = false;
        this.socketDrained();
      });
    }
    if (this.#trailers !== undefined) {
      this.connection.sendHeaders(this.id, this.#trailers, true);
      this.#endSent();
    } else if (this.hasMore && !this.#isBorrowing && !this.isEndSent && !this.isOver) {
      if (this.connection.writer.isSlow) {
        this.connection.waitForDrain(this);
      } else {
        this.drained();
      }
    }
  }

  #push(bytes: Buffer): void {
    this.#enqueue({ memory: bytes, start: 0, end: bytes.length, isSpaced: false });
  }

  #enqueue(piece: QueuedPiece): void {
    if (!this.isOver && !this.isEndSent && piece.end > piece.start) {
      this.#queue ??= new SendQueue();
      this.#queue.push(piece);
    }
  }

  #sendSoon(sizeBytes: number): void {
    if (this.isOver || this.isWaitingForWindow) {
      return;
    }
    this.flow();
    if (sizeBytes >= flushedBytesMin) {
      this.connection.flush();
      if (this.#waitingBytes === 0 && !this.#isBorrowing && this.connection.writer.isSlow) {
        this.connection.waitForDrain(this);
      }
    }
  }

  #endSent(): void {
    this.isEndSent = true;
    this.finish();
  }
}
