import { ErrorKind, failure } from "#base/errors.ts";
import type { ByteSink, ByteSource } from "../../logs/byte-streams.ts";
import { ReceiveQueue } from "../receive-queue.ts";
import type { SpdyHeaders } from "./header-block.ts";

/** What a stream asks of its connection. */
export interface StreamPort {
  /** Resolves when there is room for more. */
  sendData(streamId: number, bytes: Uint8Array, isLast: boolean): Promise<void>;
  sendReset(streamId: number, status: number): void;
  onRoom(): void;
  /** Both sides have ended. */
  onClosed(streamId: number): void;
}

/**
 * One stream of a connection, in both directions.
 *
 * Either side ends its direction; a reset ends both. What the client sends waits until it is taken; a stream from which nobody takes is to be
 * told so by `ignore`, or it would hold up the others once it is full.
 */
export class SpdyStream implements ByteSink {
  readonly id: number;
  readonly headers: SpdyHeaders;
  readonly #port: StreamPort;
  readonly #received: ReceiveQueue;
  readonly #closed = new AbortController();
  #isLocalOpen = true;
  #isRemoteOpen = true;

  constructor(id: number, headers: SpdyHeaders, port: StreamPort) {
    this.id = id;
    this.headers = headers;
    this.#port = port;
    this.#received = new ReceiveQueue(() => port.onRoom());
  }

  /** What the client sends. */
  get bytes(): ByteSource {
    return this.#received;
  }

  get isFull(): boolean {
    return this.#received.isFull;
  }

  /** Aborts when the stream was reset, or both sides have ended, or the connection has. */
  get closed(): AbortSignal {
    return this.#closed.signal;
  }

  /** Forgets what the client sends. */
  ignore(): void {
    this.#received.discard();
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (!this.#isLocalOpen) {
      throw failure(ErrorKind.Unavailable, `stream ${this.id} is closed`);
    }
    await this.#port.sendData(this.id, bytes, false);
  }

  async end(): Promise<void> {
    if (this.#isLocalOpen) {
      this.#isLocalOpen = false;
      await this.#port.sendData(this.id, new Uint8Array(), true).catch(() => undefined);
      this.#closeIfDone();
    }
  }

  /** Ends both directions. */
  reset(status: number): void {
    if (this.#isLocalOpen || this.#isRemoteOpen) {
      this.#port.sendReset(this.id, status);
      this.onReset();
    }
  }

  /** For the connection: the client has sent something. */
  onData(bytes: Uint8Array, isLast: boolean): void {
    this.#received.put(bytes);
    if (isLast) {
      this.#isRemoteOpen = false;
      this.#received.end();
      this.#closeIfDone();
    }
  }

  /** For the connection: nothing comes or goes any more. */
  onReset(): void {
    this.#isLocalOpen = false;
    this.#isRemoteOpen = false;
    this.#received.end();
    this.#closeIfDone();
  }

  #closeIfDone(): void {
    if (!this.#isLocalOpen && !this.#isRemoteOpen && !this.#closed.signal.aborted) {
      this.#closed.abort();
      this.#port.onClosed(this.id);
    }
  }
}
