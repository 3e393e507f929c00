import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { type CallOrigin, nextOrigin } from "#wire/call-id.ts";
import { Http2Connection } from "#wire/http2/connection.ts";
import { wholeBuffer } from "#wire/http2/data-flow.ts";
import { greetServer } from "#wire/http2/greeting.ts";
import type { ReceivedHeaders } from "#wire/http2/header-intake.ts";
import { connectionWindowBytes } from "#wire/http2/limits.ts";
import {
  defaultWindowBytes,
  ErrorCode,
  FrameType,
  frameHeadBytes,
  SettingId,
  windowBytesMax,
} from "#wire/http2/protocol.ts";
import type { WriterGroup } from "#wire/http2/writer-group.ts";
import { endCodeOf } from "./end-code.ts";
import { gatedResponseBytesMax, reusedStreamIdMax } from "./limits.ts";
import { ResponseGate } from "./response-gate.ts";
import type { RelayedStream, StreamCarrier } from "./stream.ts";
import type { StreamOwner } from "./stream-owner.ts";

/** Who opened an upstream connection and gives it streams. */
export interface UpstreamOwner {
  /** The connection can take streams now, or more than before. */
  upstreamReady(upstream: UpstreamConnection): void;
  /** The service takes no stream beyond `lastStreamId` on this connection. */
  upstreamLeaving(upstream: UpstreamConnection, lastStreamId: number): void;
  upstreamLost(upstream: UpstreamConnection): void;
  upstreamFault(upstream: UpstreamConnection, error: unknown): void;
}

/**
 * The connection of one client connection to one service. Stream ids are those of the client connection; on the wire they are higher by
 * what clients before it have used.
 */
export class UpstreamConnection extends Http2Connection implements StreamCarrier {
  #client: StreamOwner;
  #owner: UpstreamOwner;
  #gate: ResponseGate;
  #isConnected = false;
  /** The highest stream id that was sent; every later stream needs a higher one. */
  #lastStreamId = 0;
  #openStreams = 0;
  #isLeaving = false;
  isFaulty = false;
  readonly origin: CallOrigin = nextOrigin();
  /** What the service was told that each new stream may send. */
  #announcedWindowBytes = defaultWindowBytes;

  constructor(socket: Duplex, group: WriterGroup, client: StreamOwner, owner: UpstreamOwner) {
    super(socket, group, { windowBytes: connectionWindowBytes, headerTableBytes: 0 });
    this.#client = client;
    this.#owner = owner;
    this.#gate = new ResponseGate(client);
  }

  /** Greets the service as soon as the socket is open. */
  start(): void {
    if (this.socket instanceof Socket && this.socket.connecting) {
      this.socket.once("connect", () => this.handle(() => this.#greet()));
    } else {
      this.#greet();
    }
  }

  /** Whether the service has shown that it is there; before that it has certainly handled no request. */
  get hasAnswered(): boolean {
    return this.hasPeerSettings;
  }

  /** Whether another client may have the connection: the service is there, and nothing of a client before is under way. */
  get isReusable(): boolean {
    return (
      this.hasAnswered &&
      !this.#isLeaving &&
      !this.isClosed &&
      this.#openStreams === 0 &&
      !this.writer.isSlow &&
      this.writer.idShift + this.#lastStreamId < reusedStreamIdMax
    );
  }

  /** Parts the connection from its client, which has gone. It must be reusable. */
  leaveTo(group: WriterGroup, owner: UpstreamOwner): void {
    this.joinGroup(group);
    this.#owner = owner;
    // Ids of clients are odd, and so is what comes behind an even number.
    const usedIds = this.#lastStreamId === 0 ? 0 : this.#lastStreamId + 1;
    this.writer.idShift += usedIds;
    this.reader.idShift += usedIds;
    this.#lastStreamId = 0;
  }

  /** Gives the connection to a client. */
  workFor(group: WriterGroup, client: StreamOwner, owner: UpstreamOwner): void {
    this.joinGroup(group);
    this.#client = client;
    this.#owner = owner;
    this.#gate = new ResponseGate(client);
    if (client.peerInitialWindowBytes !== this.#announcedWindowBytes) {
      this.announceWindow(client.peerInitialWindowBytes);
    }
  }

  /** Whether a stream can be sent now. */
  canTake(streamId: number): boolean {
    return this.#isConnected && !this.canNeverTake(streamId) && this.#openStreams < this.peerStreamsMax;
  }

  /** Whether a stream can be sent neither now nor later. */
  canNeverTake(streamId: number): boolean {
    const isTooHigh = streamId + this.writer.idShift > windowBytesMax;
    return this.#isLeaving || this.isClosed || streamId <= this.#lastStreamId || isTooHigh;
  }

  /**
   * Takes a stream, with its header block as it arrived or as it was kept.
   *
   * @param headers - The headers that the client connection has just received, or undefined to use what was kept.
   */
  take(stream: RelayedStream, headers: ReceivedHeaders | undefined): void {
    const { up, down, id } = stream;
    this.#lastStreamId = id;
    this.#openStreams += 1;
    stream.sentTo(this, performance.now());
    up.sink = this;
    up.sendWindowBytes = this.peerInitialWindowBytes;
    down.source = this;
    down.receiveWindowBytes = this.#announcedWindowBytes;
    const endsWithHeaders = up.hasOnlyEnd;
    if (headers === undefined) {
      this.sendHeaders(id, wholeBuffer(stream.requestBlock()), endsWithHeaders);
    } else {
      this.#client.forwardHeaders(this, headers);
    }
    down.passCredit();
    if (endsWithHeaders) {
      up.isEndSent = true;
    } else {
      up.flow();
      up.passCredit();
    }
  }

  streamGone(): void {
    this.#openStreams -= 1;
    this.#endIfUnused();
    this.#owner.upstreamReady(this);
  }

  openGate(stream: RelayedStream): void {
    this.#gate.open(stream);
  }
  dropGated(stream: RelayedStream): void {
    this.#gate.drop(stream);
  }

  /** Gives the connection no more streams, and ends it when those it has are over. */
  leave(): void {
    this.#isLeaving = true;
    this.#endIfUnused();
  }

  /** Tells the service that the client changed the window of its streams. */
  announceWindow(initialWindowBytes: number): void {
    if (this.#isConnected) {
      this.#announcedWindowBytes = initialWindowBytes;
      this.writer.settings([[SettingId.InitialWindowSize, initialWindowBytes]]);
    }
  }

  endSent(streamId: number): void {
    this.#client.endSent(streamId);
  }

  override onFrame(buffer: Buffer, frameStart: number, frameEnd: number): void {
    if (this.reader.type === FrameType.ResumePoint) {
      this.#find(this.reader.streamId)?.passPoint(buffer.toString("latin1", frameStart + frameHeadBytes, frameEnd));
    } else {
      super.onFrame(buffer, frameStart, frameEnd);
    }
  }

  protected onHeaders(headers: ReceivedHeaders): void {
    const stream = this.#find(headers.streamId);
    if (stream === undefined || stream.down.isEnded) {
      return;
    }
    if (stream.resumption?.takesHead() === true) {
      if (headers.endStream) {
        stream.passGivingUp();
      }
      return;
    }
    if (stream.watcher !== undefined) {
      stream.endCode = endCodeOf(headers, stream.contentType);
    }
    if (headers.list.isTooLarge) {
      this.writer.resetStream(stream.id, ErrorCode.EnhanceYourCalm);
      this.#client.resetByService(stream, ErrorCode.InternalError);
      return;
    }
    const { down } = stream;
    if (!headers.endStream && this.#gate.hold(stream, headers.list)) {
      return;
    }
    if (headers.endStream && (stream.gatedHead !== undefined || down.waitingBytes > 0)) {
      down.passTrailers(wholeBuffer(headers.list.block));
      this.openGate(stream);
      return;
    }
    this.openGate(stream);
    stream.hasResponse = true;
    if (stream.resumption === undefined) {
      stream.releaseKept();
    }
    this.forwardHeaders(this.#client, headers);
    if (headers.endStream) {
      down.isEnded = true;
      down.isEndSent = true;
      this.#client.endSent(stream.id);
    }
  }

  protected onData(
    chunk: Buffer,
    start: number,
    end: number,
    headStart: number,
    missingBytes: number,
    isLast: boolean,
  ): void {
    const stream = this.#find(this.reader.streamId);
    if (stream === undefined || stream.down.isEnded) {
      this.returnCredit(end - start, undefined);
    } else {
      const { down } = stream;
      const knownBytes = stream.resumption?.takeBytes(end - start) ?? 0;
      if (knownBytes > 0 && start + knownBytes === end && !isLast) {
        return;
      }
      stream.watcher?.responseMessage(end - start - knownBytes);
      down.pass(chunk, start + knownBytes, end, knownBytes > 0 ? -1 : headStart, missingBytes, isLast);
      if (isLast || down.waitingBytes > gatedResponseBytesMax || down.receiveWindowBytes <= 0) {
        this.openGate(stream);
      }
    }
  }

  protected onPadding(streamId: number, paddingBytes: number): void {
    if (this.#find(streamId) !== undefined) {
      this.writer.windowUpdate(streamId, paddingBytes);
    }
  }

  protected onReset(streamId: number, code: number): void {
    const stream = this.#find(streamId);
    if (stream !== undefined) {
      this.#client.resetByService(stream, code);
    }
  }

  protected onStreamWindow(streamId: number, incrementBytes: number): void {
    const stream = this.#find(streamId);
    if (stream === undefined) {
      return;
    }
    if (incrementBytes === 0 || stream.up.sendWindowBytes + incrementBytes > windowBytesMax) {
      this.writer.resetStream(streamId, ErrorCode.FlowControlError);
      this.#client.resetByService(stream, ErrorCode.InternalError);
      return;
    }
    stream.up.widen(incrementBytes);
  }

  protected onInitialWindow(differenceBytes: number): void {
    for (const stream of this.#client.relayedStreams()) {
      if (stream.upstream === this) {
        stream.up.widen(differenceBytes);
      }
    }
  }

  protected onStreamFault(streamId: number, code: number): void {
    const stream = this.#find(streamId);
    if (stream !== undefined) {
      this.writer.resetStream(streamId, code);
      this.#client.resetByService(stream, ErrorCode.InternalError);
    }
  }

  protected onGoaway(lastStreamId: number, code: number): void {
    this.#isLeaving = true;
    this.isFaulty ||= code !== ErrorCode.NoError;
    this.#owner.upstreamLeaving(this, lastStreamId);
    this.#endIfUnused();
  }

  protected onSettings(): void {
    this.#owner.upstreamReady(this);
  }

  protected onFault(error: unknown): void {
    this.isFaulty = true;
    this.#owner.upstreamFault(this, error);
    this.close();
  }

  protected onClosed(): void {
    this.#owner.upstreamLost(this);
  }
  #greet(): void {
    this.#isConnected = true;
    this.#announcedWindowBytes = this.#client.peerInitialWindowBytes;
    const windows = { streamBytes: this.#announcedWindowBytes, connectionBytes: connectionWindowBytes };
    greetServer(this.writer, windows, this.#client.messageLimits, this.origin);
    this.#owner.upstreamReady(this);
  }

  #find(streamId: number): RelayedStream | undefined {
    const stream = this.#client.findStream(streamId);
    return stream?.upstream === this ? stream : undefined;
  }

  #endIfUnused(): void {
    if (this.#isLeaving && this.#openStreams === 0) {
      this.close();
    }
  }
}
