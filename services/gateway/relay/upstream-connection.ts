import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { wholeBuffer } from "#wire/http2/data-flow.ts";
import { greetServer } from "#wire/http2/greeting.ts";
import type { ReceivedHeaders } from "#wire/http2/header-intake.ts";
import { connectionWindowBytes } from "#wire/http2/limits.ts";
import { defaultWindowBytes, ErrorCode, SettingId, windowBytesMax } from "#wire/http2/protocol.ts";
import type { WriterGroup } from "#wire/http2/writer-group.ts";
import { reusedStreamIdMax } from "./limits.ts";
import { ServiceResponses } from "./service-responses.ts";
import type { RelayedStream } from "./stream.ts";
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
export class UpstreamConnection extends ServiceResponses {
  #owner: UpstreamOwner;
  #isConnected = false;
  /** The highest stream id that was sent; every later stream needs a higher one. */
  #lastStreamId = 0;
  #openStreams = 0;
  #isLeaving = false;
  /** What the service was told that each new stream may send. */
  #announcedWindowBytes = defaultWindowBytes;

  constructor(socket: Duplex, group: WriterGroup, client: StreamOwner, owner: UpstreamOwner) {
    super(socket, group, client);
    this.#owner = owner;
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
    this.#owner = owner;
    this.answerTo(client);
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
      this.client.forwardHeaders(this, headers);
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
    this.client.endSent(streamId);
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
    this.#announcedWindowBytes = this.client.peerInitialWindowBytes;
    const windows = { streamBytes: this.#announcedWindowBytes, connectionBytes: connectionWindowBytes };
    greetServer(this.writer, windows, this.client.messageLimits, this.origin);
    this.#owner.upstreamReady(this);
  }

  #endIfUnused(): void {
    if (this.#isLeaving && this.#openStreams === 0) {
      this.close();
    }
  }
}
