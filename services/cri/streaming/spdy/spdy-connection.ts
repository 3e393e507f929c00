import type { Duplex } from "node:stream";
import { ErrorKind, failure } from "#base/errors.ts";
import { IdleClock } from "../idle-clock.ts";
import {
  controlFrame,
  dataBytesMax,
  dataFrameHead,
  type Frame,
  FrameReader,
  FrameType,
  finFlag,
  GoAwayStatus,
  numbers,
  ResetStatus,
} from "./frames.ts";
import { HeaderBlockReader, HeaderBlockWriter, type SpdyHeaders } from "./header-block.ts";
import { SpdyStream } from "./spdy-stream.ts";

/** Streams of one connection at a time: each connection to a forwarded port takes two. */
const streamsMax = 4096;

/** How long a client may take to fetch what was sent to it before the connection was closed, in ms. */
const lingerMsMax = 5_000;

const streamIdMask = 0x7fff_ffff;
/** Bytes before the block of headers in a frame that opens a stream. */
const synStreamHeadBytes = 10;

/** What is done with the streams that a client opens. */
export interface SpdyConnectionOptions {
  /** How long nothing may move, in ms, before the connection is closed; 0 for ever. */
  readonly idleMs: number;
  /** Whether a stream with these headers is let in. */
  readonly accepts: (headers: SpdyHeaders) => boolean;
  /** Takes a new stream that was let in. */
  readonly onStream: (stream: SpdyStream) => void;
}

/**
 * The server's end of a connection that speaks SPDY/3.1.
 *
 * No client of Kubernetes uses the windows of SPDY, and none would open one: they are read over. A client is held back by its connection, which
 * is read no further while one of its streams is full; and it holds back the writers of all of its streams.
 *
 * @source SPDY protocol draft 3.1; moby/spdystream connection.go `Serve`, which all clients of Kubernetes use
 */
export class SpdyConnection {
  readonly #socket: Duplex;
  readonly #options: SpdyConnectionOptions;
  readonly #reader = new FrameReader();
  readonly #headerReader = new HeaderBlockReader();
  readonly #headerWriter = new HeaderBlockWriter();
  readonly #streams = new Map<number, SpdyStream>();
  readonly #closed = new AbortController();
  readonly #clock: IdleClock;
  #lastStreamId = 0;
  #isLeaving = false;
  #isLingering = false;
  #room: PromiseWithResolvers<void> | undefined;

  /** @param socket - Nobody else reads from it or writes to it. */
  constructor(socket: Duplex, options: SpdyConnectionOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#clock = new IdleClock(options.idleMs, () => this.#end());
    socket.on("data", (bytes: Uint8Array) => this.#take(bytes));
    socket.on("drain", () => this.#makeRoom());
    socket.on("error", () => socket.destroy());
    // A client that ends its side has nothing to read either.
    socket.on("end", () => socket.destroy());
    socket.on("close", () => this.#end());
  }

  /** Aborts when the connection is over. */
  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  /** Ends what is still open and closes the connection once the client has what was sent, or after some seconds. */
  close(): void {
    if (this.#isLeaving) {
      return;
    }
    this.#isLeaving = true;
    this.#startLinger();
    void Promise.all(Array.from(this.#streams.values(), (stream) => stream.end())).then(() =>
      this.#leave(GoAwayStatus.Ok),
    );
  }

  #take(bytes: Uint8Array): void {
    if (this.#isLingering) {
      return;
    }
    this.#clock.touch();
    try {
      for (const frame of this.#reader.read(bytes)) {
        this.#handle(frame);
      }
    } catch {
      this.#leave(GoAwayStatus.ProtocolError);
      return;
    }
    if (this.#streams.values().some((stream) => stream.isFull)) {
      this.#socket.pause();
    }
  }

  #handle(frame: Frame): void {
    if (frame.kind === "data") {
      this.#streams.get(frame.streamId)?.onData(frame.bytes, frame.isLast);
      return;
    }
    const { type, flags, payload } = frame;
    switch (type) {
      case FrameType.SynStream:
        this.#open(payload, flags);
        break;
      case FrameType.RstStream:
        this.#streams.get(payload.readUInt32BE(0) & streamIdMask)?.onReset();
        break;
      case FrameType.Ping:
        // Odd ones are the client's, the others answers.
        if (payload.readUInt32BE(0) % 2 === 1) {
          this.#socket.write(controlFrame(FrameType.Ping, 0, payload.subarray(0, 4)));
        }
        break;
      case FrameType.Headers:
        // Read for the sake of those that follow: all of a connection are compressed as one.
        this.#headerReader.read(payload.subarray(4));
        break;
      default:
      // Settings, windows, and that the client goes away, which it does by closing.
    }
  }

  #open(payload: Buffer, flags: number): void {
    const id = payload.readUInt32BE(0) & streamIdMask;
    const headers = this.#headerReader.read(payload.subarray(synStreamHeadBytes));
    if (id % 2 === 0 || id <= this.#lastStreamId) {
      this.#reset(id, ResetStatus.ProtocolError);
      return;
    }
    this.#lastStreamId = id;
    if (this.#isLeaving || this.#streams.size >= streamsMax) {
      this.#reset(id, ResetStatus.RefusedStream);
      return;
    }
    if (!this.#options.accepts(headers)) {
      this.#reset(id, ResetStatus.Cancel);
      return;
    }
    const stream = new SpdyStream(id, headers, {
      sendData: (streamId, bytes, isLast) => this.#send(streamId, bytes, isLast),
      sendReset: (streamId, status) => this.#reset(streamId, status),
      onRoom: () => this.#resume(),
      onClosed: (streamId) => void this.#streams.delete(streamId),
    });
    this.#streams.set(id, stream);
    this.#socket.write(controlFrame(FrameType.SynReply, 0, numbers(id), this.#headerWriter.write(new Map())));
    this.#options.onStream(stream);
    if ((flags & finFlag) !== 0) {
      stream.onData(new Uint8Array(), true);
    }
  }

  #resume(): void {
    if (!this.#streams.values().some((stream) => stream.isFull)) {
      this.#socket.resume();
    }
  }

  #reset(streamId: number, status: number): void {
    if (!this.#socket.writableEnded) {
      this.#socket.write(controlFrame(FrameType.RstStream, 0, numbers(streamId, status)));
    }
  }

  async #send(streamId: number, bytes: Uint8Array, isLast: boolean): Promise<void> {
    let offset = 0;
    do {
      while (this.#socket.writableNeedDrain && !this.closed.aborted) {
        this.#room ??= Promise.withResolvers();
        await this.#room.promise;
      }
      if (this.closed.aborted || this.#socket.writableEnded) {
        throw failure(ErrorKind.Unavailable, "the connection is closed");
      }
      const piece = bytes.subarray(offset, offset + dataBytesMax);
      offset += piece.length;
      this.#clock.touch();
      this.#socket.cork();
      this.#socket.write(dataFrameHead(streamId, isLast && offset === bytes.length ? finFlag : 0, piece.length));
      this.#socket.write(piece);
      this.#socket.uncork();
    } while (offset < bytes.length);
  }

  #makeRoom(): void {
    const room = this.#room;
    this.#room = undefined;
    room?.resolve();
  }

  /** Lets the client fetch what was sent to it, and not for ever. */
  #startLinger(): void {
    this.#isLingering = true;
    const timer = setTimeout(() => this.#socket.destroy(), lingerMsMax);
    this.#socket.once("close", () => clearTimeout(timer));
    // What the client still sends is read and forgotten, or the kernel would take back what it has not fetched.
    this.#socket.resume();
  }

  #leave(status: number): void {
    this.#isLeaving = true;
    if (!this.#isLingering) {
      this.#startLinger();
    }
    if (!this.#socket.destroyed && !this.#socket.writableEnded) {
      this.#socket.write(controlFrame(FrameType.GoAway, 0, numbers(this.#lastStreamId, status)));
      this.#socket.end();
    }
    this.#end();
  }

  #end(): void {
    if (this.closed.aborted) {
      return;
    }
    this.#isLeaving = true;
    this.#closed.abort();
    this.#clock.stop();
    this.#makeRoom();
    for (const stream of this.#streams.values()) {
      stream.onReset();
    }
    if (!this.#isLingering) {
      this.#socket.destroy();
    }
  }
}
