import type { Duplex } from "node:stream";
import type { MessageLimits } from "../message-limits.ts";
import { AnnouncedBodies } from "./announced-bodies.ts";
import type { ConnectionOptions } from "./connection-flow.ts";
import { FloodBudget } from "./flood-budget.ts";
import type { ReceivedHeaders } from "./header-intake.ts";
import { LateStreams } from "./late-streams.ts";
import { headerListBytesMax, lastStreamMsMax, lingerMs, resetsBurst, resetsPerSecond, streamsMax } from "./limits.ts";
import { ConnectionFault, defaultWindowBytes, ErrorCode, SettingId, windowBytesMax } from "./protocol.ts";
import { faultOfTrailers, type RequestHead } from "./request-head.ts";
import type { EndpointConnection } from "./sending-stream.ts";
import type { PeerSettings } from "./settings.ts";
import { type CarriedStream, StreamConnection } from "./stream-connection.ts";
import { WriterGroup } from "./writer-group.ts";

/** How a server connection is opened. */
export interface ServerConnectionOptions extends ConnectionOptions {
  /** What each new stream of the client may send. */
  readonly streamWindowBytes: number;
}

/**
 * The server's end of a connection: which streams there are, and the rules for what a client may do with them. What becomes
 * of a stream is left to the subclass.
 *
 * @source RFC 9113 sections 5.1, 6 and 8
 */
export abstract class ServerConnection<S extends CarriedStream>
  extends StreamConnection<S>
  implements EndpointConnection
{
  readonly #options: ServerConnectionOptions;
  readonly #resets = new FloodBudget(resetsBurst, resetsPerSecond);
  readonly #lateStreams = new LateStreams();
  readonly #bodies = new AnnouncedBodies();
  #lastStreamId = 0;
  #draining: "no" | "announced" | "refusing" = "no";
  #drainTimer: NodeJS.Timeout | undefined;
  #lingerTimer: NodeJS.Timeout | undefined;

  constructor(socket: Duplex, options: ServerConnectionOptions) {
    super(socket, new WriterGroup(), options);
    this.#options = options;
  }

  /** How large the messages of its streams may be. */
  abstract get messageLimits(): MessageLimits;

  callIdOf(_streamId: number): string | undefined {
    return undefined;
  }

  get streams(): ReadonlyMap<number, S> {
    return this.table;
  }

  /** Sends the settings, and reads what has come already. What comes of both leaves by one write. */
  start(received: Buffer): void {
    const { windowBytes, streamWindowBytes, headerTableBytes } = this.#options;
    this.handle(() => {
      this.writer.settings([
        ...(headerTableBytes === undefined ? [] : [[SettingId.HeaderTableSize, headerTableBytes] as const]),
        [SettingId.MaxConcurrentStreams, streamsMax],
        ...(streamWindowBytes === defaultWindowBytes
          ? []
          : [[SettingId.InitialWindowSize, streamWindowBytes] as const]),
        [SettingId.MaxHeaderListSize, headerListBytesMax],
      ]);
      this.writer.windowUpdate(0, windowBytes - defaultWindowBytes);
      this.receive(received);
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

  /** Ends the connection behind what was written, and with it the streams that are open. */
  end(): void {
    if (!this.isClosed) {
      this.reader.stop();
      this.loseStreams();
      this.#endGently();
    }
  }

  /** Takes a stream that has been opened. */
  protected abstract openStream(head: RequestHead, headers: ReceivedHeaders): void;
  /** Told of a fault that ends the connection. */
  protected abstract onWarning(error: unknown, message: string): void;
  /** The connection is going to end, or has ended; nothing more is wanted for it. */
  protected abstract onEnding(): void;

  /** Adds a stream to the table. */
  protected addStream(stream: S): void {
    this.table.set(stream.id, stream);
  }

  /** Removes a stream that is over on both sides, or reset. */
  protected removeStream(streamId: number): void {
    this.table.delete(streamId);
    this.#bodies.forget(streamId);
    if (this.#draining === "refusing" && this.table.size === 0 && !this.isClosed) {
      this.#endGently();
    }
  }

  streamOver(stream: { readonly id: number }): void {
    this.removeStream(stream.id);
  }

  resetStream(stream: { readonly id: number }, code: number): void {
    this.sendReset(stream.id, code);
    this.removeStream(stream.id);
  }

  endSent(_streamId: number): void {}

  /** Tells the client that a stream is over. Frames of it that are under way are no fault of the client's. */
  protected sendReset(streamId: number, code: number): void {
    this.writer.resetStream(streamId, code);
    this.#lateStreams.add(streamId);
  }

  protected onHeaders(headers: ReceivedHeaders): void {
    const { streamId, list, endStream } = headers;
    const stream = this.table.get(streamId);
    if (stream !== undefined) {
      this.#receiveTrailers(stream, headers);
      return;
    }
    if (this.#lateStreams.has(streamId)) {
      if (!endStream) {
        this.#refuseFrame(streamId, ErrorCode.ProtocolError);
      }
      return;
    }
    if (this.#draining === "refusing" && streamId > this.#lastStreamId) {
      return;
    }
    if (streamId % 2 === 0 || streamId <= this.#lastStreamId) {
      throw new ConnectionFault(ErrorCode.ProtocolError, `stream ${streamId} can't be opened`);
    }
    this.#lastStreamId = streamId;
    if (this.table.size >= streamsMax) {
      this.sendReset(streamId, ErrorCode.RefusedStream);
    } else if (list.isTooLarge) {
      this.sendReset(streamId, ErrorCode.EnhanceYourCalm);
    } else {
      this.#open(headers);
    }
  }

  protected onReset(streamId: number, code: number): void {
    this.requireOpened(streamId);
    this.#spendReset();
    this.#lateStreams.forget(streamId);
    this.table.get(streamId)?.abort(code);
  }

  protected onStreamFault(streamId: number, code: number, message = "a frame breaks a rule"): void {
    const stream = this.table.get(streamId);
    if (stream !== undefined) {
      this.failStream(stream, code);
    } else if (streamId > this.#lastStreamId) {
      throw new ConnectionFault(code, message);
    } else {
      this.#refuseFrame(streamId, code);
    }
  }

  protected onSettings(_settings: PeerSettings): void {}

  protected onGoaway(): void {}

  protected override onPingAck(): void {
    if (this.#draining === "announced") {
      this.#refuseNewStreams();
    }
  }

  protected onFault(error: unknown): void {
    const isFault = error instanceof ConnectionFault;
    this.onWarning(error, isFault ? "a client broke the rules of HTTP/2" : "the connection failed");
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
    this.onEnding();
    this.loseStreams();
  }

  #open(headers: ReceivedHeaders): void {
    const { streamId, endStream, list, dependsOnItself } = headers;
    const head = list.request;
    const lacksBody = endStream && head.contentLength !== undefined && head.contentLength > 0;
    if (head.fault !== undefined || dependsOnItself || lacksBody) {
      this.#spendReset();
      this.sendReset(streamId, ErrorCode.ProtocolError);
      return;
    }
    if (head.contentLength !== undefined && !endStream) {
      this.#bodies.expect(streamId, head.contentLength);
    }
    this.openStream(head, headers);
  }

  #receiveTrailers(stream: S, { endStream, list }: ReceivedHeaders): void {
    if (stream.isEnded) {
      this.failStream(stream, ErrorCode.StreamClosed);
    } else if (!endStream || faultOfTrailers(list) !== undefined || !this.#bodies.fits(stream.id, 0, true)) {
      this.failStream(stream, ErrorCode.ProtocolError);
    } else if (list.isTooLarge) {
      this.failStream(stream, ErrorCode.EnhanceYourCalm);
    } else {
      stream.receiveTrailers(list);
    }
  }

  protected onDataOfClosed(streamId: number): void {
    this.requireOpened(streamId);
    if (!this.#lateStreams.has(streamId) && streamId <= this.#lastStreamId) {
      this.#refuseFrame(streamId, ErrorCode.StreamClosed);
    }
  }

  /** Says what is wrong with a frame of a stream that is over. */
  #refuseFrame(streamId: number, code: number): void {
    this.#spendReset();
    this.sendReset(streamId, code);
  }

  protected failStream(stream: S, code: number): void {
    this.sendReset(stream.id, code);
    stream.abort(ErrorCode.Cancel);
  }

  #spendReset(): void {
    if (!this.#resets.spend(1)) {
      throw new ConnectionFault(ErrorCode.EnhanceYourCalm, "too many streams are reset");
    }
  }

  #refuseNewStreams(): void {
    if (this.#draining === "announced") {
      this.#draining = "refusing";
      clearTimeout(this.#drainTimer);
      this.writer.goaway(this.#lastStreamId, ErrorCode.NoError, "");
      if (this.table.size === 0) {
        this.#endGently();
      }
    }
  }

  /** Lets the client read what was written, and closes the connection then. */
  #endGently(): void {
    this.onEnding();
    this.group.flush();
    this.socket.end();
    this.#lingerTimer ??= setTimeout(() => this.close(), lingerMs);
  }

  protected override fitsBody(streamId: number, sizeBytes: number, isLast: boolean): boolean {
    return this.#bodies.fits(streamId, sizeBytes, isLast);
  }

  protected override requireOpened(streamId: number): void {
    if (streamId > this.#lastStreamId && this.#draining !== "refusing") {
      throw new ConnectionFault(ErrorCode.ProtocolError, `stream ${streamId} was never opened`);
    }
  }
}
