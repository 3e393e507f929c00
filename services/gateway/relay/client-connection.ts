import type { Socket } from "node:net";
import { Http2Connection, type ReceivedHeaders } from "#wire/http2/connection.ts";
import { FloodBudget } from "#wire/http2/flood-budget.ts";
import {
  connectionWindowBytes,
  headerListBytesMax,
  lastStreamMsMax,
  lingerMs,
  resetsBurst,
  resetsPerSecond,
  resetsRemembered,
  streamsMax,
} from "#wire/http2/limits.ts";
import { ConnectionFault, defaultWindowBytes, ErrorCode, SettingId, windowBytesMax } from "#wire/http2/protocol.ts";
import { WriterGroup } from "#wire/http2/writer-group.ts";
import { encodeAnswer, encodeTrailers, endsWithTrailers, Refusal } from "./answer.ts";
import { keptRequestsBytesMax } from "./limits.ts";
import { describeMissingRoute, findRoute, type RelayRoutes } from "./route.ts";
import { type KeepBudget, RelayedStream } from "./stream.ts";
import { type LinkOwner, UpstreamLink } from "./upstream-link.ts";

export interface ClientConnectionOptions {
  readonly routes: RelayRoutes;
  readonly heldMsMax: number;
  /** Opens a connection to the socket of a process. */
  connectUpstream(upstream: string): Socket;
  onWarning(fields: object, message: string): void;
  /** The connection is over. */
  onGone(connection: ClientConnection): void;
}

/** The HTTP/2 connection of one client, with everything that the relay does for that client. */
export class ClientConnection extends Http2Connection implements LinkOwner {
  readonly #options: ClientConnectionOptions;
  readonly #streams = new Map<number, RelayedStream>();
  readonly #links = new Map<string, UpstreamLink>();
  readonly #keepBudget: KeepBudget = { leftBytes: keptRequestsBytesMax };
  readonly #resets = new FloodBudget(resetsBurst, resetsPerSecond);
  /** Streams that the relay has reset lately; frames that the client sent before it knew are no fault. */
  readonly #lateStreams = new Set<number>();
  #lastStreamId = 0;
  #draining: "no" | "announced" | "refusing" = "no";
  #drainTimer: NodeJS.Timeout | undefined;
  #lingerTimer: NodeJS.Timeout | undefined;

  constructor(socket: Socket, options: ClientConnectionOptions) {
    super(socket, new WriterGroup(), "request");
    this.#options = options;
  }

  get streams(): ReadonlyMap<number, RelayedStream> {
    return this.#streams;
  }

  /** Sends the settings. */
  start(): void {
    this.handle(() => {
      this.writer.settings([
        [SettingId.HeaderTableSize, 0],
        [SettingId.MaxConcurrentStreams, streamsMax],
        [SettingId.MaxHeaderListSize, headerListBytesMax],
      ]);
      this.writer.windowUpdate(0, connectionWindowBytes - defaultWindowBytes);
    });
  }

  /**
   * Lets the streams that are open end, takes no new ones, and then closes the connection. First the client learns that
   * it shall open no more, then, when what it had sent before must have arrived, which was the last.
   */
  drain(): void {
    if (this.#draining !== "no" || this.isClosed) {
      return;
    }
    this.#draining = "announced";
    this.#drainTimer = setTimeout(() => this.handle(() => this.#refuseNewStreams()), lastStreamMsMax);
    this.handle(() => {
      this.writer.goaway(windowBytesMax, ErrorCode.NoError, "");
      this.writer.ping(Buffer.alloc(8), 0, 0);
    });
  }

  flush(): void {
    this.group.flush();
  }

  endSent(streamId: number): void {
    const stream = this.#streams.get(streamId);
    if (stream !== undefined) {
      this.#finish(stream);
    }
  }

  resetByService(stream: RelayedStream, code: number): void {
    if (stream.down.isEnded && !stream.down.isEndSent) {
      stream.resetBehindEnd = code;
      this.#detach(stream);
    } else {
      this.#reset(stream, code);
    }
  }

  finishWithoutUpstream(stream: RelayedStream): void {
    stream.upstream = undefined;
    this.#detach(stream);
    this.#finish(stream);
  }

  refuse(stream: RelayedStream, refusal: Refusal, message: string): void {
    const { down, contentType, id } = stream;
    stream.upstream = undefined;
    this.#detach(stream);
    if (!stream.hasResponse) {
      stream.hasResponse = true;
      const { headerBlock, body } = encodeAnswer(contentType, refusal, message);
      if (body === undefined) {
        down.passTrailers(wholeBuffer(headerBlock));
      } else {
        this.sendHeaders(id, wholeBuffer(headerBlock), false);
        down.append(body);
        down.passEnd();
      }
    } else if (endsWithTrailers(contentType)) {
      down.passTrailers(wholeBuffer(encodeTrailers(refusal, message)));
    } else {
      this.#reset(stream, ErrorCode.InternalError);
    }
  }

  protected onHeaders(headers: ReceivedHeaders): void {
    const { streamId, endStream } = headers;
    const stream = this.#streams.get(streamId);
    if (stream !== undefined) {
      this.#receiveTrailers(stream, endStream);
      return;
    }
    if (this.#lateStreams.has(streamId) || (this.#draining === "refusing" && streamId > this.#lastStreamId)) {
      return;
    }
    if (streamId % 2 === 0 || streamId <= this.#lastStreamId) {
      throw new ConnectionFault(ErrorCode.ProtocolError, `stream ${streamId} can't be opened`);
    }
    this.#lastStreamId = streamId;
    if (this.#streams.size >= streamsMax) {
      this.#resetUnopened(streamId, ErrorCode.RefusedStream);
    } else if (this.block.isTooLarge) {
      this.#resetUnopened(streamId, ErrorCode.EnhanceYourCalm);
    } else {
      this.#open(headers);
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
    const { streamId } = this.reader;
    const stream = this.#streams.get(streamId);
    if (stream === undefined || stream.up.isEnded || end - start > stream.up.receiveWindowBytes) {
      this.returnCredit(end - start, undefined);
      if (stream === undefined) {
        this.#requireOpened(streamId);
      } else {
        this.#resetBoth(stream, stream.up.isEnded ? ErrorCode.StreamClosed : ErrorCode.FlowControlError);
      }
      return;
    }
    stream.keep(chunk, start, end);
    stream.up.pass(chunk, start, end, headStart, missingBytes, isLast);
  }

  protected onPadding(streamId: number, paddingBytes: number): void {
    if (this.#streams.has(streamId)) {
      this.writer.windowUpdate(streamId, paddingBytes);
    }
  }

  protected onReset(streamId: number, code: number): void {
    this.#requireOpened(streamId);
    if (!this.#resets.spend(1)) {
      throw new ConnectionFault(ErrorCode.EnhanceYourCalm, "too many streams are reset");
    }
    const stream = this.#streams.get(streamId);
    if (stream !== undefined) {
      stream.upstream?.writer.resetStream(streamId, code);
      this.#drop(stream);
    }
  }

  protected onStreamWindow(streamId: number, incrementBytes: number): void {
    this.#requireOpened(streamId);
    const stream = this.#streams.get(streamId);
    if (stream === undefined) {
      return;
    }
    if (incrementBytes === 0) {
      this.#resetBoth(stream, ErrorCode.ProtocolError);
    } else if (stream.down.sendWindowBytes + incrementBytes > windowBytesMax) {
      this.#resetBoth(stream, ErrorCode.FlowControlError);
    } else {
      stream.down.widen(incrementBytes);
    }
  }

  protected onInitialWindow(differenceBytes: number): void {
    for (const link of this.#links.values()) {
      link.announceWindow(this.peerInitialWindowBytes);
    }
    for (const stream of this.#streams.values()) {
      const { down, upstream } = stream;
      if (differenceBytes < 0) {
        // The service may not be able to complete a response that is held back.
        upstream?.openGate(stream);
      }
      if (upstream !== undefined) {
        down.receiveWindowBytes += differenceBytes;
      }
      if (down.sendWindowBytes + differenceBytes > windowBytesMax) {
        throw new ConnectionFault(ErrorCode.FlowControlError, "SETTINGS make the window of a stream too large");
      }
      down.widen(differenceBytes);
    }
  }

  protected onSettings(): void {}

  protected onGoaway(): void {}

  protected override onPingAck(): void {
    if (this.#draining === "announced") {
      this.#refuseNewStreams();
    }
  }

  protected onFault(error: unknown): void {
    const isFault = error instanceof ConnectionFault;
    this.#options.onWarning({ err: error }, isFault ? "a client broke the rules of HTTP/2" : "the relay failed");
    this.reader.stop();
    this.writer.goaway(
      this.#lastStreamId,
      isFault ? error.code : ErrorCode.InternalError,
      isFault ? error.message : "internal error",
    );
    this.#endGently();
  }

  protected onClosed(): void {
    clearTimeout(this.#drainTimer);
    clearTimeout(this.#lingerTimer);
    this.#closeLinks();
    this.#streams.clear();
    this.#options.onGone(this);
  }

  #open(headers: ReceivedHeaders): void {
    const { streamId: id, endStream } = headers;
    const { buffer, start, end, path, contentType } = this.block;
    const method = findRoute(this.#options.routes, path);
    const block = Buffer.allocUnsafe(end - start);
    buffer.copy(block, 0, start, end);
    const stream = new RelayedStream({ id, method, contentType, block }, this.#keepBudget);
    const { up, down } = stream;
    up.source = this;
    up.receiveWindowBytes = defaultWindowBytes;
    up.isEnded = endStream;
    down.sink = this;
    down.sendWindowBytes = this.peerInitialWindowBytes;
    this.#streams.set(id, stream);
    if (method === undefined) {
      this.refuse(stream, Refusal.Unimplemented, describeMissingRoute(this.#options.routes, path));
      return;
    }
    const link = this.#linkTo(method.upstream);
    const ready = link.findReady(id);
    if (ready === undefined) {
      link.hold(stream);
    } else {
      ready.take(stream, headers);
    }
  }

  #linkTo(upstream: string): UpstreamLink {
    let link = this.#links.get(upstream);
    if (link === undefined) {
      const options = this.#options;
      link = new UpstreamLink(this, this.group, {
        upstream,
        heldMsMax: options.heldMsMax,
        connect: () => options.connectUpstream(upstream),
        onWarning: (fields, message) => options.onWarning(fields, message),
      });
      this.#links.set(upstream, link);
    }
    return link;
  }

  #receiveTrailers(stream: RelayedStream, endStream: boolean): void {
    if (stream.up.isEnded || !endStream) {
      this.#resetBoth(stream, stream.up.isEnded ? ErrorCode.StreamClosed : ErrorCode.ProtocolError);
      return;
    }
    stream.releaseKept();
    stream.up.passTrailers(wholeBuffer(Buffer.from(this.block.buffer.subarray(this.block.start, this.block.end))));
  }

  /** Removes a stream when both directions have ended, or the response has and nobody wants the rest of the request. */
  #finish(stream: RelayedStream): void {
    if (!stream.down.isEndSent) {
      return;
    }
    if (stream.resetBehindEnd !== undefined) {
      this.#reset(stream, stream.resetBehindEnd);
    } else if (stream.up.isEndSent || (stream.upstream === undefined && stream.up.isEnded)) {
      this.#drop(stream);
    } else if (stream.upstream === undefined) {
      this.#reset(stream, ErrorCode.NoError);
    }
  }

  #resetBoth(stream: RelayedStream, code: number): void {
    stream.upstream?.writer.resetStream(stream.id, ErrorCode.Cancel);
    this.#reset(stream, code);
  }

  #reset(stream: RelayedStream, code: number): void {
    this.#resetUnopened(stream.id, code);
    this.#drop(stream);
  }

  #resetUnopened(streamId: number, code: number): void {
    this.writer.resetStream(streamId, code);
    this.#lateStreams.add(streamId);
    if (this.#lateStreams.size > resetsRemembered) {
      const [oldest = streamId] = this.#lateStreams;
      this.#lateStreams.delete(oldest);
    }
  }

  /** Parts a stream from its service; what the client still sends is thrown away. */
  #detach(stream: RelayedStream): void {
    const { upstream } = stream;
    stream.upstream = undefined;
    stream.releaseKept();
    stream.up.discard();
    upstream?.dropGated(stream);
    upstream?.streamGone();
  }

  #drop(stream: RelayedStream): void {
    this.#streams.delete(stream.id);
    if (stream.upstream === undefined && stream.method !== undefined) {
      this.#links.get(stream.method.upstream)?.forget(stream);
    }
    this.#detach(stream);
    stream.down.discard();
    if (this.#draining === "refusing" && this.#streams.size === 0) {
      this.#endGently();
    }
  }

  #refuseNewStreams(): void {
    if (this.#draining === "announced") {
      this.#draining = "refusing";
      clearTimeout(this.#drainTimer);
      this.writer.goaway(this.#lastStreamId, ErrorCode.NoError, "");
      if (this.#streams.size === 0) {
        this.#endGently();
      }
    }
  }

  /** Lets the client read what was written, and closes the connection then. */
  #endGently(): void {
    this.#closeLinks();
    this.group.flush();
    this.socket.end();
    this.#lingerTimer ??= setTimeout(() => this.close(), lingerMs);
  }

  #closeLinks(): void {
    for (const link of this.#links.values()) {
      link.close();
    }
  }

  #requireOpened(streamId: number): void {
    if (streamId > this.#lastStreamId && this.#draining !== "refusing") {
      throw new ConnectionFault(ErrorCode.ProtocolError, `stream ${streamId} was never opened`);
    }
  }
}

function wholeBuffer(buffer: Buffer): { buffer: Buffer; start: number; end: number } {
  return { buffer, start: 0, end: buffer.length };
}
