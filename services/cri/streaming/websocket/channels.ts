import type { WebSocket } from "ws";
import { ErrorKind, failure } from "#base/errors.ts";
import type { ByteSink, ByteSource } from "../../logs/byte-streams.ts";
import { IdleClock } from "../idle-clock.ts";
import { ReceiveQueue } from "../receive-queue.ts";

/** First byte of a message by which a client ends a channel, in protocols that can. @source k8s.io/streaming wsstream/conn.go `streamCloseSignal` */
const closeSignal = 255;

const digitZero = 0x30;

/** How messages on a WebSocket are read. */
export interface ChannelOptions {
  /** Whether messages are text: a digit for the channel and base64. */
  readonly isBase64: boolean;
  /** Whether a client may end a single channel. */
  readonly hasCloseSignal: boolean;
  /** Channels that the client writes to; what it sends on others is forgotten. */
  readonly readable: readonly number[];
  /** How long nothing may move, in ms, before the connection is closed; 0 for ever. */
  readonly idleMs: number;
}

/**
 * Several streams over one WebSocket: the first byte of each message says which.
 *
 * @source k8s.io/streaming pkg/httpstream/wsstream/conn.go `Conn`
 */
export class WebSocketChannels {
  readonly #socket: WebSocket;
  readonly #options: ChannelOptions;
  readonly #queues: ReadonlyMap<number, ReceiveQueue>;
  readonly #closed = new AbortController();
  readonly #clock: IdleClock;

  constructor(socket: WebSocket, options: ChannelOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#queues = new Map(options.readable.map((channel) => [channel, new ReceiveQueue(() => this.#resume())]));
    this.#clock = new IdleClock(options.idleMs, () => socket.terminate());
    socket.on("message", (data: Buffer) => this.#take(data));
    socket.on("error", () => socket.terminate());
    socket.on("close", () => this.#end());
  }

  /** Aborts when the connection is over. */
  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  /** What the client sends on a channel that is readable. */
  source(channel: number): ByteSource {
    const queue = this.#queues.get(channel);
    if (queue === undefined) {
      throw new Error(`channel ${channel} is not read`);
    }
    return queue;
  }

  /** A channel to the client. Its end cannot be told to the client, and is not. */
  sink(channel: number): ByteSink {
    let hasEnded = false;
    return {
      write: (bytes) => (hasEnded ? Promise.reject(this.#gone()) : this.#send(channel, bytes)),
      end: () => {
        hasEnded = true;
        return Promise.resolve();
      },
    };
  }

  /** Closes the connection once the client has what was sent, or after some time. */
  close(): void {
    this.#socket.resume();
    this.#socket.close(1000);
    for (const queue of this.#queues.values()) {
      queue.discard();
    }
  }

  #send(channel: number, bytes: Uint8Array): Promise<void> {
    this.#clock.touch();
    const message = this.#options.isBase64
      ? String(channel) + Buffer.from(bytes).toString("base64")
      : Buffer.concat([Uint8Array.of(channel), bytes]);
    return new Promise((resolve, reject) => {
      this.#socket.send(message, { binary: !this.#options.isBase64 }, (error) =>
        error === undefined || error === null ? resolve() : reject(this.#gone()),
      );
    });
  }

  #take(data: Buffer): void {
    this.#clock.touch();
    const [first] = data;
    if (first === undefined) {
      return;
    }
    if (this.#options.hasCloseSignal && first === closeSignal) {
      this.#endChannel(data);
      return;
    }
    const queue = this.#queues.get(this.#options.isBase64 ? first - digitZero : first);
    const bytes = data.subarray(1);
    queue?.put(this.#options.isBase64 ? Buffer.from(bytes.toString("latin1"), "base64") : bytes);
    if (queue?.isFull === true) {
      this.#socket.pause();
    }
  }

  #endChannel(message: Buffer): void {
    const [, channel = Number.NaN] = message;
    if (message.length === 2 && this.#queues.has(channel)) {
      this.#queues.get(channel)?.end();
    } else if (message.length !== 2) {
      this.#socket.close(1002);
    }
  }

  #resume(): void {
    if (!this.#queues.values().some((queue) => queue.isFull)) {
      this.#socket.resume();
    }
  }

  #end(): void {
    this.#clock.stop();
    this.#closed.abort();
    for (const queue of this.#queues.values()) {
      queue.end();
    }
  }

  #gone(): Error {
    return failure(ErrorKind.Unavailable, "the connection is closed");
  }
}
