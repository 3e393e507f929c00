import type { MessageLimits } from "../message-limits.ts";
import type { Chunk } from "./chunk.ts";
import type { DataSink, DataSource, HeaderBytes, WindowWaiter } from "./data-flow.ts";
import type { HeaderList } from "./header-list.ts";
import { frameBytesMax } from "./limits.ts";
import { SendQueue } from "./send-queue.ts";
import type { StreamEvents } from "./stream-events.ts";

/** Pieces that leave at once, so that the peer can begin with them while more is made. */
const flushedBytesMin = 64 * 1024;

/** The connection that an {@link EndpointStream} belongs to. */
export interface EndpointConnection extends DataSink, DataSource {
  readonly isClosed: boolean;
  /** How large the messages of its streams may be. */
  readonly messageLimits: MessageLimits;
  /** What the call of a stream is known by; undefined where nobody has named the connection. */
  callIdOf(streamId: number): string | undefined;
  /** Writes what was collected. */
  flush(): void;
  /** Calls {@link EndpointStream.socketDrained} when everything is written. */
  waitForDrain(stream: EndpointStream): void;
  /** The stream is over on both sides, or reset. */
  streamOver(stream: EndpointStream): void;
  /** Tells the peer that a stream is over before its time, and forgets it. */
  resetStream(stream: EndpointStream, code: number): void;
}

/** One stream of a server or a client of the fleet: what is sent waits here for the peer's windows. */
export class EndpointStream implements WindowWaiter {
  readonly id: number;
  readonly #connection: EndpointConnection;
  /** Who is told of what comes. */
  events: StreamEvents;
  sendWindowBytes: number;
  receiveWindowBytes: number;
  isWaitingForWindow = false;
  /** Whether the peer's END_STREAM has arrived. */
  isEnded = false;
  /** Whether our END_STREAM has been sent. */
  isEndSent = false;
  /** Whether the stream is over, so that nothing can be sent and nothing comes. */
  isOver = false;
  /** Called once when the stream is over, however it ended. */
  onOver: (() => void) | undefined;
  readonly #queue = new SendQueue();
  #endsBehindQueue = false;
  /** Whether bytes wait that will be somebody else's once they are written. */
  #isBorrowing = false;
  #trailers: HeaderBytes | undefined;
  #consumedBytes = 0;
  readonly #windowStepBytes: number;

  constructor(
    id: number,
    connection: EndpointConnection,
    windows: { readonly sendBytes: number; readonly receiveBytes: number },
    events: StreamEvents,
  ) {
    this.id = id;
    this.#connection = connection;
    this.sendWindowBytes = windows.sendBytes;
    this.receiveWindowBytes = windows.receiveBytes;
    this.#windowStepBytes = windows.receiveBytes / 4;
    this.events = events;
  }

  /** How large its messages may be. */
  get messageLimits(): MessageLimits {
    return this.#connection.messageLimits;
  }

  /** What its call is known by, unless a header says otherwise. */
  get callId(): string | undefined {
    return this.#connection.callIdOf(this.id);
  }

  /** Whether so much waits that more should be made only when {@link StreamEvents.onDrained} is called. */
  get isSlow(): boolean {
    return this.#isBorrowing || this.#queue.sizeBytes > 0 || this.#connection.writer.isSlow;
  }

  /** Sends header fields that do not end the stream. Nothing may have been sent before them but such fields. */
  sendHeaders(block: HeaderBytes): void {
    if (!this.isOver) {
      this.#connection.sendHeaders(this.id, block, false);
    }
  }

  /** Tells where what is sent next begins. Nothing may wait. */
  sendResumePoint(point: string): void {
    if (!this.isOver) {
      this.#connection.writer.resumePoint(this.id, point);
    }
  }

  /** Sends the fields that end the stream, behind what waits. */
  endWithHeaders(block: HeaderBytes): void {
    if (this.isOver || this.isEndSent) {
      return;
    }
    if (this.#queue.sizeBytes > 0) {
      this.#trailers = block;
      this.#endsBehindQueue = true;
    } else {
      this.#connection.sendHeaders(this.id, block, true);
      this.#endSent();
    }
  }

  /** Sends bytes, which nobody changes from now on. */
  write(bytes: Buffer): void {
    this.#push(bytes);
    this.#sendSoon(bytes.length);
  }

  /** Sends pieces that belong together, such as a prefix and its message. */
  writeAll(pieces: readonly Buffer[]): void {
    let sizeBytes = 0;
    for (const piece of pieces) {
      this.#push(piece);
      sizeBytes += piece.length;
    }
    this.#sendSoon(sizeBytes);
  }

  /** Sends pieces that may be changed again when {@link StreamEvents.onDrained} is called, and not before. */
  writeBorrowed(pieces: readonly Buffer[]): void {
    this.#isBorrowing = true;
    this.writeAll(pieces);
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
    if (this.#queue.sizeBytes > 0) {
      this.flow();
    } else {
      this.#connection.writer.dataHead(this.id, 0, true);
      this.#endSent();
    }
  }

  /** Ends the stream at once; what waits is thrown away, and what comes is ignored. One that both sides have ended is over without it. */
  reset(code: number): void {
    this.#finish();
    if (!this.isOver) {
      this.isOver = true;
      this.#forget();
      this.#connection.resetStream(this, code);
      this.onOver?.();
    }
  }

  /** The piece that is being received must stay as it is, for ever or until the chunk that it is a part of is released. */
  keepChunk(): Chunk | undefined {
    return this.#connection.holdChunk();
  }

  /** Whoever got bytes has used them, so that the peer may send as many more. */
  consume(sizeBytes: number): void {
    this.#connection.returnCredit(sizeBytes, undefined);
    if (this.isEnded || this.isOver) {
      return;
    }
    this.#consumedBytes += sizeBytes;
    if (this.#consumedBytes >= this.#windowStepBytes) {
      this.#connection.writer.windowUpdate(this.id, this.#consumedBytes);
      this.receiveWindowBytes += this.#consumedBytes;
      this.#consumedBytes = 0;
    }
  }

  /** Takes a piece of DATA. */
  receiveData(chunk: Buffer, start: number, end: number, _headStart: number, _missing: number, isLast: boolean): void {
    this.receiveWindowBytes -= end - start;
    this.isEnded = isLast;
    this.events.onData(chunk, start, end, isLast);
    if (isLast) {
      this.#finish();
    }
  }

  /** Takes the fields that end what the peer sends. */
  receiveTrailers(list: HeaderList | undefined): void {
    this.isEnded = true;
    this.events.onEnd(list);
    this.#finish();
  }

  /** Ends the stream, since the peer reset it or broke a rule, or the connection is lost. */
  abort(code: number | undefined): void {
    if (!this.isOver) {
      this.isOver = true;
      this.#forget();
      this.#connection.streamOver(this);
      this.onOver?.();
      this.events.onAbort(code);
    }
  }

  widen(incrementBytes: number): void {
    this.sendWindowBytes += incrementBytes;
    if (incrementBytes > 0 && this.#queue.sizeBytes > 0) {
      this.flow();
    }
  }

  changeInitialWindow(differenceBytes: number): void {
    this.widen(differenceBytes);
  }

  connectionLost(): void {
    this.abort(undefined);
  }

  /** The connection has written everything. */
  socketDrained(): void {
    if (!this.isOver && this.#queue.sizeBytes === 0) {
      this.events.onDrained?.();
    }
  }

  flow(turnBytes = Number.POSITIVE_INFINITY): void {
    const connection = this.#connection;
    let leftBytes = turnBytes;
    while (this.#queue.sizeBytes > 0) {
      const allowedBytes = Math.min(leftBytes, this.sendWindowBytes, connection.sendWindowBytes, frameBytesMax);
      if (allowedBytes <= 0) {
        if (this.sendWindowBytes > 0) {
          connection.waitForWindow(this);
        }
        return;
      }
      const sizeBytes = Math.min(allowedBytes, this.#queue.sizeBytes);
      const isLast = this.#endsBehindQueue && this.#trailers === undefined && sizeBytes === this.#queue.sizeBytes;
      leftBytes -= sizeBytes;
      this.sendWindowBytes -= sizeBytes;
      connection.sendWindowBytes -= sizeBytes;
      connection.writer.dataHead(this.id, sizeBytes, isLast);
      this.#queue.send(sizeBytes, connection.writer);
      if (isLast) {
        this.#endSent();
      }
    }
    this.#queueSent();
  }

  /** Called when nothing waits any more. */
  #queueSent(): void {
    if (this.#isBorrowing) {
      this.#connection.writer.afterWrite(() => {
        this.#isBorrowing = false;
        this.socketDrained();
      });
    }
    if (this.#trailers !== undefined) {
      this.#connection.sendHeaders(this.id, this.#trailers, true);
      this.#endSent();
    } else if (this.events.onDrained !== undefined && !this.#isBorrowing && !this.isEndSent && !this.isOver) {
      if (this.#connection.writer.isSlow) {
        this.#connection.waitForDrain(this);
      } else {
        this.events.onDrained();
      }
    }
  }

  #push(bytes: Buffer): void {
    if (!this.isOver && !this.isEndSent && bytes.length > 0) {
      this.#queue.push(bytes);
    }
  }

  #sendSoon(sizeBytes: number): void {
    if (this.isOver || this.isWaitingForWindow) {
      return;
    }
    this.flow();
    if (sizeBytes >= flushedBytesMin) {
      this.#connection.flush();
      if (this.#queue.sizeBytes === 0 && !this.#isBorrowing && this.#connection.writer.isSlow) {
        this.#connection.waitForDrain(this);
      }
    }
  }

  #endSent(): void {
    this.isEndSent = true;
    this.#finish();
  }

  #finish(): void {
    if (!this.isOver && this.isEnded && this.isEndSent) {
      this.isOver = true;
      this.#connection.streamOver(this);
      this.onOver?.();
    }
  }

  #forget(): void {
    this.#queue.clear();
    this.#trailers = undefined;
  }
}
