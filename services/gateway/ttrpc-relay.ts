import type { Socket } from "node:net";
import { create, toBinary } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { ResponseSchema } from "#gen/ttrpc/ttrpc_pb.ts";
import { encodeFrame, type Frame, FrameParser, FrameType, oversizedMessage } from "#wire/ttrpc/frame.ts";

/** How the relay reaches the events process, and what it tells. */
export interface TtrpcRelayOptions {
  connectUpstream(): Socket;
  onWarning(fields: object, message: string): void;
}

const reconnectMsMin = 10;
const reconnectMsMax = 250;
/** How long a connection to the events process stays open when nothing is asked, since most shims have nothing to tell for hours. */
const idleMsMax = 10_000;
/** Answers that a client may leave unread. */
const unreadBytesMax = 1024 * 1024;
/** Requests of all clients that wait for answers. Beyond them nothing more is read. */
const waitingBytesMax = 16 * 1024 * 1024;

/**
 * The public ttrpc socket, on which shims tell their events. It passes frames between a client and the events process, under their own
 * stream ids, and knows nothing of what is in them.
 *
 * Nothing is answered here. A request is kept until the events process has answered it, and goes to the next one when that dies,
 * also if the client has gone meanwhile: repeating an event is harmless there. So clients see an answer that takes longer, and no broken connection.
 */
export class TtrpcRelay {
  readonly #options: TtrpcRelayOptions;
  readonly #channels = new Set<Channel>();
  #waitingBytes = 0;
  #idle: (() => void) | undefined;
  #isClosed = false;

  constructor(options: TtrpcRelayOptions) {
    this.#options = options;
  }

  /** Takes a connection over. Bytes that are not ttrpc close it. */
  handleConnection(client: Socket): void {
    if (this.#isClosed) {
      client.destroy();
      return;
    }
    const channel = new Channel(client, this.#options, {
      onWaiting: (bytes) => this.#count(bytes),
      onOver: () => {
        this.#channels.delete(channel);
        this.#tellIdle();
      },
    });
    this.#channels.add(channel);
  }

  /** Ends all connections as soon as what they brought is answered. @param drainMs - How long that may take. */
  async close(drainMs: number): Promise<void> {
    this.#isClosed = true;
    this.#channels.forEach((channel) => channel.pause());
    if (this.#waitingBytes > 0) {
      await new Promise<void>((resolve) => {
        const deadline = setTimeout(resolve, drainMs);
        this.#idle = () => {
          clearTimeout(deadline);
          resolve();
        };
      });
    }
    this.#channels.forEach((channel) => channel.close());
  }

  #count(bytes: number): void {
    const wasFull = this.#waitingBytes > waitingBytesMax;
    this.#waitingBytes += bytes;
    const isFull = this.#waitingBytes > waitingBytesMax;
    if (isFull && !wasFull) {
      this.#channels.forEach((channel) => channel.pause());
    } else if (wasFull && !isFull && !this.#isClosed) {
      this.#channels.forEach((channel) => channel.resume());
    }
    this.#tellIdle();
  }

  #tellIdle(): void {
    if (this.#waitingBytes === 0) {
      this.#idle?.();
    }
  }
}

interface ChannelWatcher {
  /** Told how many more bytes of requests wait for answers, or how many less. */
  onWaiting(bytes: number): void;
  /** Told once, when the client has gone and nothing waits any more. */
  onOver(): void;
}

/** One client's connection, and its own connection to the events process, which may be another from time to time. */
class Channel {
  readonly #client: Socket;
  readonly #options: TtrpcRelayOptions;
  readonly #watcher: ChannelWatcher;
  /** Requests without an answer, encoded, by stream id, in the order in which they came. */
  readonly #waiting = new Map<number, Buffer>();
  #upstream: Socket | undefined;
  #reconnectMs = reconnectMsMin;
  #timer: NodeJS.Timeout | undefined;
  #isClientGone = false;

  constructor(client: Socket, options: TtrpcRelayOptions, watcher: ChannelWatcher) {
    this.#client = client;
    this.#options = options;
    this.#watcher = watcher;
    client.on("error", () => client.destroy());
    // The listener keeps a side open that the other has closed; who hung up waits for nothing here.
    client.once("end", () => client.end());
    client.once("close", () => {
      this.#isClientGone = true;
      this.#endIfOver();
    });
    readFrames(client, {
      onFrame: (frame) => this.#ask(frame),
      onOversized: (streamId, message) => this.#refuse(streamId, message),
      onNonsense: () => client.destroy(),
    });
  }

  pause(): void {
    this.#client.pause();
  }

  resume(): void {
    this.#client.resume();
  }

  /** Ends both connections. What waits is lost. */
  close(): void {
    clearTimeout(this.#timer);
    const bytes = this.#waiting.values().reduce((sum, { length }) => sum + length, 0);
    this.#waiting.clear();
    this.#watcher.onWaiting(-bytes);
    this.#upstream?.destroy();
    this.#client.destroySoon();
  }

  #ask(frame: Frame): void {
    const bytes = encodeFrame(frame);
    // A stream id that is used twice is the server's to refuse, and has one answer that counts.
    if (frame.type === FrameType.Request && !this.#waiting.has(frame.streamId)) {
      this.#waiting.set(frame.streamId, bytes);
      this.#watcher.onWaiting(bytes.length);
    }
    if (this.#upstream !== undefined) {
      this.#upstream.write(bytes);
    } else if (this.#timer === undefined) {
      this.#connect();
    }
  }

  /** Opens a connection and asks what waits. */
  #connect(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const upstream = this.#options.connectUpstream();
    this.#upstream = upstream;
    upstream.on("error", () => upstream.destroy());
    upstream.once("end", () => upstream.destroy());
    upstream.once("close", () => this.#lose());
    upstream.setTimeout(idleMsMax, () => {
      if (this.#waiting.size === 0) {
        upstream.destroy();
      }
    });
    readFrames(upstream, {
      onFrame: (frame) => this.#answer(frame),
      onOversized: (_, message) => this.#distrust(upstream, message),
      onNonsense: (error) => this.#distrust(upstream, String(error)),
    });
    for (const bytes of this.#waiting.values()) {
      upstream.write(bytes);
    }
  }

  #lose(): void {
    this.#upstream = undefined;
    if (this.#waiting.size > 0) {
      this.#timer = setTimeout(() => this.#connect(), this.#reconnectMs);
      this.#reconnectMs = Math.min(reconnectMsMax, 2 * this.#reconnectMs);
    }
  }

  #distrust(upstream: Socket, reason: string): void {
    this.#options.onWarning({ err: reason }, "events broke the rules of ttrpc");
    upstream.destroy();
  }

  #answer(frame: Frame): void {
    this.#reconnectMs = reconnectMsMin;
    this.#reply(encodeFrame(frame));
    const asked = frame.type === FrameType.Response ? this.#waiting.get(frame.streamId) : undefined;
    if (asked !== undefined) {
      this.#waiting.delete(frame.streamId);
      this.#watcher.onWaiting(-asked.length);
      this.#endIfOver();
    }
  }

  #refuse(streamId: number, message: string): void {
    const data = toBinary(
      ResponseSchema,
      create(ResponseSchema, { status: { code: Code.ResourceExhausted, message } }),
    );
    this.#reply(encodeFrame({ streamId, type: FrameType.Response, flags: 0, data }));
  }

  #reply(bytes: Buffer): void {
    if (this.#client.writable) {
      this.#client.write(bytes);
    }
    if (this.#client.writableLength > unreadBytesMax) {
      this.#client.destroy();
    }
  }

  #endIfOver(): void {
    if (this.#isClientGone && this.#waiting.size === 0) {
      clearTimeout(this.#timer);
      this.#upstream?.destroy();
      this.#watcher.onOver();
    }
  }
}

interface FrameListener {
  onFrame(frame: Frame): void;
  /** Told of a frame whose data was left out, since it is too long. */
  onOversized(streamId: number, message: string): void;
  /** Told that the bytes are not ttrpc. */
  onNonsense(error: unknown): void;
}

function readFrames(socket: Socket, listener: FrameListener): void {
  const parser = new FrameParser();
  socket.on("data", (chunk: Buffer) => {
    try {
      for (const frame of parser.push(chunk)) {
        if ("oversizedBytes" in frame) {
          listener.onOversized(frame.streamId, oversizedMessage(frame.oversizedBytes).message);
        } else if (!socket.destroyed) {
          listener.onFrame(frame);
        }
      }
    } catch (error) {
      listener.onNonsense(error);
    }
  });
}
