import type { Duplex } from "node:stream";
import { Chunk } from "./chunk.ts";
import { ConnectionFlow, type ConnectionOptions } from "./connection-flow.ts";
import { type HeaderBytes, wholeBuffer } from "./data-flow.ts";
import {
  dataWithoutPadding,
  findPriorityFault,
  readGoaway,
  readWord,
  requireConnection,
  requireSize,
  requireStream,
} from "./frame-payload.ts";
import { FrameReader, type FrameSink } from "./frame-reader.ts";
import { HeaderIntake, type ReceivedHeaders } from "./header-intake.ts";
import { IdleFrames } from "./idle-frames.ts";
import { settingsCost } from "./limits.ts";
import {
  ConnectionFault,
  defaultHeaderTableBytes,
  defaultWindowBytes,
  ErrorCode,
  Flag,
  FrameType,
  frameHeadBytes,
  windowBytesMax,
} from "./protocol.ts";
import { ReusingSocket } from "./reusing-socket.ts";
import { type PeerSettings, parseSettings } from "./settings.ts";
import type { WriterGroup } from "./writer-group.ts";

/**
 * One HTTP/2 connection, to a client or to a service: frames, settings, pings, header state and the
 * connection's own windows. What concerns streams is left to the subclass.
 *
 * @source RFC 9113
 */
export abstract class Http2Connection extends ConnectionFlow implements FrameSink {
  /** What the peer lets each new stream send. */
  peerInitialWindowBytes = defaultWindowBytes;
  protected readonly reader: FrameReader = new FrameReader(this);
  protected peerStreamsMax = Number.POSITIVE_INFINITY;
  /** Whether the peer's first SETTINGS have arrived. */
  protected hasPeerSettings = false;
  readonly #headers = new HeaderIntake(this.reader);
  readonly #tableBytesMax: number | undefined;
  readonly #idleFrames = new IdleFrames();
  #owesTableReset = false;
  #hasResetTable = false;

  protected constructor(socket: Duplex, group: WriterGroup, options: ConnectionOptions) {
    super(socket, group, options.windowBytes);
    this.#tableBytesMax = options.headerTableBytes;
    if (socket instanceof ReusingSocket) {
      socket.onChunk = (chunk) => this.#read(chunk.bytes, chunk);
    }
    socket.on("data", (bytes: Buffer) => this.receive(bytes));
    socket.on("drain", () => this.handle(() => this.drained()));
    socket.on("error", () => undefined);
    socket.on("end", () => this.close());
    socket.on("close", () => this.close());
  }

  /** Reads what arrived on the socket; the bytes are the connection's from now on. */
  receive(bytes: Buffer): void {
    this.#read(bytes, Chunk.tryOwn(bytes));
  }

  /** Ends the connection at once. */
  close(): void {
    if (this.isClosed) {
      return;
    }
    this.isClosed = true;
    this.reader.stop();
    this.socket.destroy();
    this.endFlow();
    this.handle(() => this.onClosed());
  }

  sendHeaders(streamId: number, block: HeaderBytes, endStream: boolean): void {
    this.writer.headers(streamId, block, { endStream, resetsTable: this.#owesTableReset });
    this.#owesTableReset = false;
  }

  onFrame(buffer: Buffer, frameStart: number, frameEnd: number): void {
    const { type } = this.reader;
    const payloadStart = frameStart + frameHeadBytes;
    if (this.#headers.isInside) {
      this.#receiveBlock(this.#headers.continue(buffer, payloadStart, frameEnd));
      return;
    }
    if (!this.hasPeerSettings && (type !== FrameType.Settings || (this.reader.flags & Flag.Ack) !== 0)) {
      throw new ConnectionFault(ErrorCode.ProtocolError, "the first frame is not SETTINGS");
    }
    switch (type) {
      case FrameType.Data:
        this.#receivePaddedData(buffer, payloadStart, frameEnd);
        return;
      case FrameType.Headers:
        this.#receiveBlock(this.#headers.begin(buffer, frameStart, frameEnd));
        return;
      case FrameType.ResetStream:
        requireStream(this.reader.streamId);
        this.onReset(this.reader.streamId, readWord(buffer, payloadStart, frameEnd));
        return;
      case FrameType.Settings:
        this.#receiveSettings(buffer, payloadStart, frameEnd);
        return;
      case FrameType.Ping:
        this.#receivePing(buffer, payloadStart, frameEnd);
        return;
      case FrameType.Goaway:
        this.#receiveGoaway(buffer, payloadStart, frameEnd);
        return;
      case FrameType.WindowUpdate:
        this.#receiveWindowUpdate(buffer, payloadStart, frameEnd);
        return;
      case FrameType.PushPromise:
        throw new ConnectionFault(ErrorCode.ProtocolError, "PUSH_PROMISE is not allowed here");
      case FrameType.Continuation:
        throw new ConnectionFault(ErrorCode.ProtocolError, "CONTINUATION without a header block");
      case FrameType.Priority:
        this.#receivePriority(buffer, payloadStart, frameEnd);
        return;
      default:
        this.#idleFrames.spend();
    }
  }

  onDataPiece(chunk: Buffer, start: number, end: number, headStart: number, missingBytes: number): void {
    this.admitData(end - start);
    const isLast = missingBytes === 0 && (this.reader.flags & Flag.EndStream) !== 0;
    if (start === end && !isLast) {
      this.#idleFrames.spend();
    } else {
      this.#idleFrames.earn();
    }
    this.onData(chunk, start, end, headStart, missingBytes, isLast);
  }

  /** Counts payload that comes. @throws ConnectionFault where none may come, or less. */
  protected admitData(sizeBytes: number): void {
    if (this.#headers.isInside || !this.hasPeerSettings) {
      throw new ConnectionFault(ErrorCode.ProtocolError, "DATA where no DATA may be");
    }
    requireStream(this.reader.streamId);
    this.receiveWindow.take(sizeBytes);
  }

  /** Does something and then writes what came of it; a fault ends the connection with GOAWAY. */
  protected handle(action: () => void): void {
    this.group.run(() => {
      try {
        action();
      } catch (error) {
        this.onFault(error);
      }
    }, this.writer);
  }

  /** Forwards the header block that was read last, in the frame it came in where that is possible. */
  forwardHeaders(to: Http2Connection, { streamId, endStream, frame, list }: ReceivedHeaders): void {
    if (frame !== undefined && !to.#owesTableReset) {
      to.writer.placeStreamId(frame.buffer, frame.start, streamId);
      to.writer.appendControl(frame.buffer, frame.start, frame.end);
    } else {
      to.sendHeaders(streamId, wholeBuffer(list.block), endStream);
    }
  }

  protected abstract onHeaders(headers: ReceivedHeaders): void;
  protected abstract onData(
    chunk: Buffer,
    start: number,
    end: number,
    headStart: number,
    missingBytes: number,
    isLast: boolean,
  ): void;
  protected abstract onReset(streamId: number, code: number): void;
  protected abstract onStreamWindow(streamId: number, incrementBytes: number): void;
  protected abstract onInitialWindow(differenceBytes: number): void;
  /** A frame breaks a rule that concerns its stream alone. */
  protected abstract onStreamFault(streamId: number, code: number, message: string): void;
  protected abstract onGoaway(lastStreamId: number, code: number): void;
  /** SETTINGS of the peer have been applied. */
  protected abstract onSettings(settings: PeerSettings): void;
  /** The peer acknowledged a PING. */
  protected onPingAck(): void {}
  protected abstract onFault(error: unknown): void;
  protected abstract onClosed(): void;

  #read(bytes: Buffer, chunk: Chunk | undefined): void {
    if (!this.isClosed) {
      this.group.chunk = chunk;
      this.handle(() => this.reader.read(bytes));
      this.group.chunk = undefined;
      this.group.pauseIfOverloaded(this.socket);
    }
    chunk?.release();
  }

  /** @param headers - The block, if it is complete. */
  #receiveBlock(headers: ReceivedHeaders | undefined): void {
    if (headers !== undefined) {
      this.#idleFrames.earn();
      this.onHeaders(headers);
    }
  }

  #receivePaddedData(buffer: Buffer, payloadStart: number, frameEnd: number): void {
    requireStream(this.reader.streamId);
    const { start, end } = dataWithoutPadding(buffer, payloadStart, frameEnd);
    this.receiveWindow.take(frameEnd - payloadStart);
    const overheadBytes = frameEnd - payloadStart - (end - start);
    this.returnCredit(overheadBytes, undefined);
    if (start === end) {
      this.#idleFrames.spend();
    }
    this.onPadding(this.reader.streamId, overheadBytes);
    this.onData(buffer, start, end, -1, 0, (this.reader.flags & Flag.EndStream) !== 0);
  }

  /** Padding took a part of the stream's window, and the receiver will never give it back. */
  protected abstract onPadding(streamId: number, paddingBytes: number): void;

  #receiveSettings(buffer: Buffer, start: number, end: number): void {
    requireConnection(this.reader.streamId);
    if ((this.reader.flags & Flag.Ack) !== 0) {
      requireSize(end - start, 0, "acknowledgement of SETTINGS");
      if (this.#tableBytesMax !== undefined) {
        this.#headers.limitTable(this.#tableBytesMax);
      }
      return;
    }
    if (this.hasPeerSettings) {
      this.#idleFrames.spend(settingsCost);
    }
    const settings = parseSettings(buffer, start, end);
    this.writer.settingsAck();
    if ((settings.headerTableBytes ?? defaultHeaderTableBytes) < defaultHeaderTableBytes && !this.#hasResetTable) {
      this.#hasResetTable = true;
      this.#owesTableReset = true;
    }
    if (settings.streamsMax !== undefined) {
      this.peerStreamsMax = settings.streamsMax;
    }
    const { initialWindowBytes = this.peerInitialWindowBytes } = settings;
    const differenceBytes = initialWindowBytes - this.peerInitialWindowBytes;
    this.peerInitialWindowBytes = initialWindowBytes;
    if (differenceBytes !== 0) {
      this.onInitialWindow(differenceBytes);
    }
    this.hasPeerSettings = true;
    this.onSettings(settings);
  }

  /** Priorities are not kept, since they are no more; but a frame that is wrong is. @source RFC 9113 sections 5.3.2 and 6.3 */
  #receivePriority(buffer: Buffer, start: number, end: number): void {
    requireStream(this.reader.streamId);
    this.#idleFrames.spend();
    const { streamId } = this.reader;
    const fault = findPriorityFault(buffer, start, end, streamId);
    if (fault !== undefined) {
      this.onStreamFault(streamId, fault.code, fault.message);
    }
  }

  #receivePing(buffer: Buffer, start: number, end: number): void {
    requireConnection(this.reader.streamId);
    requireSize(end - start, 8, "PING");
    if ((this.reader.flags & Flag.Ack) !== 0) {
      this.onPingAck();
      return;
    }
    this.#idleFrames.spend();
    this.writer.pingAck(buffer, start);
  }

  #receiveGoaway(buffer: Buffer, start: number, end: number): void {
    requireConnection(this.reader.streamId);
    const { lastStreamId, code } = readGoaway(buffer, start, end);
    this.onGoaway(lastStreamId - this.reader.idShift, code);
  }

  #receiveWindowUpdate(buffer: Buffer, start: number, end: number): void {
    const incrementBytes = readWord(buffer, start, end) & windowBytesMax;
    const { streamId } = this.reader;
    if (streamId !== 0) {
      this.onStreamWindow(streamId, incrementBytes);
      return;
    }
    if (incrementBytes === 0) {
      throw new ConnectionFault(ErrorCode.ProtocolError, "WINDOW_UPDATE of 0");
    }
    this.widenConnection(incrementBytes);
  }
}
