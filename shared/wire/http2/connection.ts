import type { Duplex } from "node:stream";
import { Chunk } from "./chunk.ts";
import { ConnectionFlow } from "./connection-flow.ts";
import type { HeaderBytes } from "./data-flow.ts";
import { FloodBudget } from "./flood-budget.ts";
import { FrameReader, type FrameSink } from "./frame-reader.ts";
import { HeaderAssembly } from "./header-assembly.ts";
import { type HeaderList, HeaderReader } from "./header-list.ts";
import { idleFramesBurst, idleFramesPerSecond } from "./limits.ts";
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
import { parseSettings } from "./settings.ts";
import type { WriterGroup } from "./writer-group.ts";

/** Frames without payload that go with one that has some. */
const idleFramesEarned = 4;
/** SETTINGS may touch every stream, so one counts as many idle frames. */
const settingsCost = 16;

/** A header block that has arrived. */
export interface ReceivedHeaders {
  readonly streamId: number;
  readonly endStream: boolean;
  readonly list: HeaderList;
  /** The HEADERS frame as it lies, if it may be forwarded so. */
  readonly frame: HeaderBytes | undefined;
  /** Whether the frame makes its stream depend on itself, which is a fault. */
  readonly dependsOnItself: boolean;
}

/** How a connection is opened. */
export interface ConnectionOptions {
  /** What the peer may send on all streams together before it gets credit back. */
  readonly windowBytes: number;
  /** What the peer is told of the header table, which it may use otherwise. */
  readonly headerTableBytes?: 0;
}

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
  readonly #headers = new HeaderReader();
  readonly #tableBytesMax: number | undefined;
  readonly #idleFrames = new FloodBudget(idleFramesBurst, idleFramesPerSecond);
  #assembly: HeaderAssembly | undefined;
  #owesTableReset = false;
  #hasResetTable = false;

  protected constructor(socket: Duplex, group: WriterGroup, options: ConnectionOptions) {
    super(socket, group, options.windowBytes);
    this.#tableBytesMax = options.headerTableBytes;
    socket.on("data", (chunk: Buffer) => this.receive(chunk));
    socket.on("drain", () => this.handle(() => this.drained()));
    socket.on("error", () => undefined);
    socket.on("end", () => this.close());
    socket.on("close", () => this.close());
  }

  /** Reads what arrived on the socket; the bytes are the connection's from now on. */
  receive(chunk: Buffer): void {
    if (!this.isClosed) {
      const owned = Chunk.tryOwn(chunk);
      this.group.chunk = owned;
      this.handle(() => this.reader.read(chunk));
      this.group.chunk = undefined;
      owned?.release();
      this.group.pauseIfOverloaded(this.socket);
    }
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
    if (this.#assembly !== undefined) {
      this.#continueHeaders(buffer, payloadStart, frameEnd);
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
        this.#beginHeaders(buffer, frameStart, frameEnd);
        return;
      case FrameType.ResetStream:
        this.#requireStream();
        this.onReset(this.reader.streamId, this.#readWord(buffer, payloadStart, frameEnd));
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
        this.#spendIdleFrame();
    }
  }

  onDataPiece(chunk: Buffer, start: number, end: number, headStart: number, missingBytes: number): void {
    if (this.#assembly !== undefined || !this.hasPeerSettings) {
      throw new ConnectionFault(ErrorCode.ProtocolError, "DATA where no DATA may be");
    }
    this.#requireStream();
    this.receiveWindow.take(end - start);
    const isLast = missingBytes === 0 && (this.reader.flags & Flag.EndStream) !== 0;
    if (start === end && !isLast) {
      this.#spendIdleFrame();
    } else {
      this.#idleFrames.earn(idleFramesEarned);
    }
    this.onData(chunk, start, end, headStart, missingBytes, isLast);
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
  protected abstract onSettings(): void;
  /** The peer acknowledged a PING. */
  protected onPingAck(): void {}

  protected abstract onFault(error: unknown): void;
  protected abstract onClosed(): void;

  #beginHeaders(buffer: Buffer, frameStart: number, frameEnd: number): void {
    this.#requireStream();
    const { flags, streamId } = this.reader;
    let start = frameStart + frameHeadBytes;
    let end = frameEnd;
    if ((flags & Flag.Padded) !== 0) {
      end -= start < frameEnd ? (buffer[start] as number) : 0;
      start += 1;
    }
    let dependsOnItself = false;
    if ((flags & Flag.Priority) !== 0) {
      dependsOnItself = start + 5 <= end && dependencyAt(buffer, start) === streamId;
      start += 5;
    }
    if (start > end) {
      throw new ConnectionFault(ErrorCode.ProtocolError, "HEADERS is shorter than its padding and priority");
    }
    const endStream = (flags & Flag.EndStream) !== 0;
    if ((flags & Flag.EndHeaders) === 0) {
      this.#assembly = new HeaderAssembly({ streamId, endStream, dependsOnItself }, buffer.subarray(start, end));
      return;
    }
    this.#idleFrames.earn(idleFramesEarned);
    const list = this.#headers.read(buffer, start, end);
    const isWholeFrame = (flags & (Flag.Padded | Flag.Priority)) === 0 && this.#headers.isVerbatim;
    const frame = isWholeFrame ? { buffer, start: frameStart, end } : undefined;
    this.onHeaders({ streamId, endStream, list, frame, dependsOnItself });
  }

  #continueHeaders(buffer: Buffer, start: number, end: number): void {
    const assembly = this.#assembly;
    if (
      assembly === undefined ||
      this.reader.type !== FrameType.Continuation ||
      this.reader.streamId !== assembly.head.streamId
    ) {
      throw new ConnectionFault(ErrorCode.ProtocolError, "a header block is interrupted");
    }
    assembly.add(buffer.subarray(start, end));
    if ((this.reader.flags & Flag.EndHeaders) !== 0) {
      this.#assembly = undefined;
      const block = assembly.join();
      const list = this.#headers.read(block, 0, block.length);
      this.onHeaders({ ...assembly.head, list, frame: undefined });
    }
  }

  #receivePaddedData(buffer: Buffer, payloadStart: number, frameEnd: number): void {
    this.#requireStream();
    const paddingBytes = payloadStart < frameEnd ? (buffer[payloadStart] as number) : -1;
    const start = payloadStart + 1;
    const end = frameEnd - paddingBytes;
    if (paddingBytes < 0 || start > end) {
      throw new ConnectionFault(ErrorCode.ProtocolError, "DATA is shorter than its padding");
    }
    this.receiveWindow.take(frameEnd - payloadStart);
    const overheadBytes = 1 + paddingBytes;
    this.returnCredit(overheadBytes, undefined);
    if (start === end) {
      this.#spendIdleFrame();
    }
    this.onPadding(this.reader.streamId, overheadBytes);
    this.onData(buffer, start, end, -1, 0, (this.reader.flags & Flag.EndStream) !== 0);
  }

  /** Padding took a part of the stream's window, and the receiver will never give it back. */
  protected abstract onPadding(streamId: number, paddingBytes: number): void;

  #receiveSettings(buffer: Buffer, start: number, end: number): void {
    this.#requireConnection();
    if ((this.reader.flags & Flag.Ack) !== 0) {
      if (end !== start) {
        throw new ConnectionFault(ErrorCode.FrameSizeError, "acknowledgement of SETTINGS with payload");
      }
      if (this.#tableBytesMax !== undefined) {
        this.#headers.limitTable(this.#tableBytesMax);
      }
      return;
    }
    if (this.hasPeerSettings) {
      this.#spendIdleFrame(settingsCost);
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
    this.onSettings();
  }

  /** Priorities are not kept, since they are no more; but a frame that is wrong is. @source RFC 9113 sections 5.3.2 and 6.3 */
  #receivePriority(buffer: Buffer, start: number, end: number): void {
    this.#requireStream();
    this.#spendIdleFrame();
    const { streamId } = this.reader;
    if (end - start !== 5) {
      this.onStreamFault(streamId, ErrorCode.FrameSizeError, "PRIORITY is not 5 bytes long");
    } else if (dependencyAt(buffer, start) === streamId) {
      this.onStreamFault(streamId, ErrorCode.ProtocolError, "a stream depends on itself");
    }
  }

  #receivePing(buffer: Buffer, start: number, end: number): void {
    this.#requireConnection();
    if (end - start !== 8) {
      throw new ConnectionFault(ErrorCode.FrameSizeError, "PING is not 8 bytes long");
    }
    if ((this.reader.flags & Flag.Ack) !== 0) {
      this.onPingAck();
      return;
    }
    this.#spendIdleFrame();
    this.writer.ping(buffer, start, Flag.Ack);
  }

  #receiveGoaway(buffer: Buffer, start: number, end: number): void {
    this.#requireConnection();
    if (end - start < 8) {
      throw new ConnectionFault(ErrorCode.FrameSizeError, "GOAWAY is shorter than 8 bytes");
    }
    this.onGoaway(buffer.readUInt32BE(start) & windowBytesMax, buffer.readUInt32BE(start + 4));
  }

  #receiveWindowUpdate(buffer: Buffer, start: number, end: number): void {
    const incrementBytes = this.#readWord(buffer, start, end) & windowBytesMax;
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

  #spendIdleFrame(count = 1): void {
    if (!this.#idleFrames.spend(count)) {
      throw new ConnectionFault(ErrorCode.EnhanceYourCalm, "too many frames without payload");
    }
  }

  #readWord(buffer: Buffer, start: number, end: number): number {
    if (end - start !== 4) {
      throw new ConnectionFault(ErrorCode.FrameSizeError, "frame is not 4 bytes long");
    }
    return buffer.readUInt32BE(start);
  }

  #requireStream(): void {
    if (this.reader.streamId === 0) {
      throw new ConnectionFault(ErrorCode.ProtocolError, "frame needs a stream");
    }
  }

  #requireConnection(): void {
    if (this.reader.streamId !== 0) {
      throw new ConnectionFault(ErrorCode.ProtocolError, "frame belongs to no stream");
    }
  }
}

/** All of a buffer, as a header block. */
export function wholeBuffer(buffer: Buffer): HeaderBytes {
  return { buffer, start: 0, end: buffer.length };
}

function dependencyAt(buffer: Buffer, start: number): number {
  return buffer.readUInt32BE(start) & 0x7fff_ffff;
}
