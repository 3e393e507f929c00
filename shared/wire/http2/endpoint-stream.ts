import type { MessageLimits } from "../message-limits.ts";
import type { Chunk } from "./chunk.ts";
import type { HeaderList } from "./header-list.ts";
import { type EndpointConnection, SendingStream } from "./sending-stream.ts";
import type { StreamEvents } from "./stream-events.ts";

/** One stream of a server or a client of the fleet: what comes, and how it ends. */
export class EndpointStream extends SendingStream {
  /** Who is told of what comes. */
  events: StreamEvents;
  receiveWindowBytes: number;
  /** Whether the peer's END_STREAM has arrived. */
  isEnded = false;
  /** Called once when the stream is over, however it ended. */
  onOver: (() => void) | undefined;
  #consumedBytes = 0;
  readonly #windowStepBytes: number;

  constructor(
    id: number,
    connection: EndpointConnection,
    windows: { readonly sendBytes: number; readonly receiveBytes: number },
    events: StreamEvents,
  ) {
    super(id, connection, windows.sendBytes);
    this.receiveWindowBytes = windows.receiveBytes;
    this.#windowStepBytes = windows.receiveBytes / 4;
    this.events = events;
  }

  /** How large its messages may be. */
  get messageLimits(): MessageLimits {
    return this.connection.messageLimits;
  }

  /** What its call is known by, unless a header says otherwise. */
  get callId(): string | undefined {
    return this.connection.callIdOf(this.id);
  }

  /** Ends the stream at once; what waits is thrown away, and what comes is ignored. One that both sides have ended is over without it. */
  reset(code: number): void {
    this.finish();
    if (!this.isOver) {
      this.isOver = true;
      this.dropWaiting();
      this.connection.resetStream(this, code);
      this.onOver?.();
    }
  }

  /** The piece that is being received must stay as it is, for ever or until the chunk that it is a part of is released. */
  keepChunk(): Chunk | undefined {
    return this.connection.holdChunk();
  }

  /** Whoever got bytes has used them, so that the peer may send as many more. */
  consume(sizeBytes: number): void {
    this.connection.returnCredit(sizeBytes, undefined);
    if (this.isEnded || this.isOver) {
      return;
    }
    this.#consumedBytes += sizeBytes;
    if (this.#consumedBytes >= this.#windowStepBytes) {
      this.connection.writer.windowUpdate(this.id, this.#consumedBytes);
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
      this.finish();
    }
  }

  /** Takes the fields that end what the peer sends. */
  receiveTrailers(list: HeaderList | undefined): void {
    this.isEnded = true;
    this.events.onEnd(list);
    this.finish();
  }

  /** Ends the stream, since the peer reset it or broke a rule, or the connection is lost. */
  abort(code: number | undefined): void {
    if (!this.isOver) {
      this.isOver = true;
      this.dropWaiting();
      this.connection.streamOver(this);
      this.onOver?.();
      this.events.onAbort(code);
    }
  }

  connectionLost(): void {
    this.abort(undefined);
  }

  protected get hasMore(): boolean {
    return this.events.onDrained !== undefined;
  }

  protected drained(): void {
    this.events.onDrained?.();
  }

  protected finish(): void {
    if (!this.isOver && this.isEnded && this.isEndSent) {
      this.isOver = true;
      this.connection.streamOver(this);
      this.onOver?.();
    }
  }
}
