import type { Duplex } from "node:stream";
import { idOfStream, nextOrigin } from "../call-id.ts";
import { defaultMessageLimits, type MessageLimits } from "../message-limits.ts";
import type { HeaderBytes } from "./data-flow.ts";
import { EndpointStream } from "./endpoint-stream.ts";
import { greetServer } from "./greeting.ts";
import type { ReceivedHeaders } from "./header-intake.ts";
import { endpointConnectionWindowBytes, endpointStreamWindowBytes } from "./limits.ts";
import { ErrorCode, windowBytesMax } from "./protocol.ts";
import type { EndpointConnection } from "./sending-stream.ts";
import { StreamConnection } from "./stream-connection.ts";
import type { StreamEvents } from "./stream-events.ts";
import { WriterGroup } from "./writer-group.ts";

/** Told of what becomes of a session. */
export interface SessionOwner {
  /** The session takes no more streams. */
  sessionLeaving(session: ClientSession): void;
  /** The session has ended. */
  sessionClosed(session: ClientSession): void;
}

/** The client's end of a connection to a process of the fleet. */
export class ClientSession extends StreamConnection<EndpointStream> implements EndpointConnection {
  readonly #owner: SessionOwner;
  #nextStreamId: number;
  #isLeaving = false;
  /** What went wrong with the session itself, if that is why it ended: the other side may live on then. */
  fault: unknown;

  /** What answers may have here; what the service is to obey can be something else. */
  readonly messageLimits: MessageLimits = defaultMessageLimits;
  readonly #announcedLimits: MessageLimits;
  readonly #origin = nextOrigin();

  /**
   * @param firstStreamId - An odd number; ids of streams only rise, and end at 2^31 - 1.
   * @param announcedLimits - How large messages may be that the service takes and gives on this session.
   */
  constructor(socket: Duplex, owner: SessionOwner, firstStreamId = 1, announcedLimits = defaultMessageLimits) {
    super(socket, new WriterGroup(), { windowBytes: endpointConnectionWindowBytes, headerTableBytes: 0 });
    this.#owner = owner;
    this.#announcedLimits = announcedLimits;
    this.#nextStreamId = firstStreamId;
  }

  /** Greets the other side; the socket is open. */
  start(): void {
    this.handle(() => {
      const windows = { streamBytes: endpointStreamWindowBytes, connectionBytes: endpointConnectionWindowBytes };
      greetServer(this.writer, windows, this.#announcedLimits, this.#origin);
    });
  }

  /** Whether a stream can be opened now. */
  get canOpen(): boolean {
    return !this.#isLeaving && !this.isClosed && this.table.size < this.peerStreamsMax;
  }

  /** Whether no stream can be opened any more. */
  get isLeaving(): boolean {
    return this.#isLeaving || this.isClosed;
  }

  /** Whether the other side has shown that it is there; before that it has certainly handled no request. */
  get hasAnswered(): boolean {
    return this.hasPeerSettings;
  }

  /**
   * Opens a stream with the head of a request. The body is to follow. Only to be called when {@link canOpen} says so.
   */
  open(head: HeaderBytes, events: StreamEvents): EndpointStream {
    const id = this.#nextStreamId;
    this.#nextStreamId += 2;
    const windows = { sendBytes: this.peerInitialWindowBytes, receiveBytes: endpointStreamWindowBytes };
    const stream = new EndpointStream(id, this, windows, events);
    this.table.set(id, stream);
    stream.sendHeaders(head);
    if (this.#nextStreamId > windowBytesMax) {
      this.leave();
    }
    return stream;
  }

  /** Opens no more streams, and ends the connection when those that are open are over. */
  leave(): void {
    if (!this.#isLeaving) {
      this.#isLeaving = true;
      this.#owner.sessionLeaving(this);
    }
    this.#closeIfUnused();
  }

  callIdOf(streamId: number): string {
    return idOfStream(this.#origin.name, streamId);
  }

  streamOver(stream: EndpointStream): void {
    this.table.delete(stream.id);
    this.#closeIfUnused();
  }

  resetStream(stream: EndpointStream, code: number): void {
    this.writer.resetStream(stream.id, code);
    this.streamOver(stream);
  }

  endSent(_streamId: number): void {}

  protected onDataOfClosed(): void {}

  protected onHeaders({ streamId, list, endStream }: ReceivedHeaders): void {
    const stream = this.table.get(streamId);
    if (stream === undefined) {
      return;
    }
    if (list.isTooLarge || stream.isEnded) {
      this.failStream(stream, list.isTooLarge ? ErrorCode.EnhanceYourCalm : ErrorCode.StreamClosed);
    } else if (endStream) {
      stream.receiveTrailers(list);
    } else {
      stream.events.onHeaders?.(list);
    }
  }

  protected onReset(streamId: number, code: number): void {
    this.table.get(streamId)?.abort(code);
  }

  protected onStreamFault(streamId: number, code: number): void {
    const stream = this.table.get(streamId);
    if (stream !== undefined) {
      this.failStream(stream, code);
    }
  }

  protected onGoaway(lastStreamId: number, code: number): void {
    if (code !== ErrorCode.NoError) {
      this.fault ??= new Error(`the other side ended the connection with code ${code}`);
    }
    for (const stream of this.table.values()) {
      if (stream.id > lastStreamId) {
        stream.abort(ErrorCode.RefusedStream);
      }
    }
    this.leave();
  }

  protected onSettings(): void {}

  protected onFault(error: unknown): void {
    this.fault = error;
    this.close();
  }

  protected onClosed(): void {
    this.loseStreams();
    this.#owner.sessionClosed(this);
  }

  protected failStream(stream: EndpointStream, code: number): void {
    this.writer.resetStream(stream.id, code);
    stream.abort(ErrorCode.InternalError);
  }

  #closeIfUnused(): void {
    if (this.#isLeaving && this.table.size === 0) {
      this.close();
    }
  }
}
