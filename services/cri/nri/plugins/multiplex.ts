import { Duplex } from "node:stream";
import { ttrpcFrameBytesMax } from "#base/limits.ts";

/** The connections within the socket of a plugin. @source containerd/nri v0.12 pkg/net/multiplex/ttrpc.go */
export const connectionIds = { plugin: 1, runtime: 2 } as const;

/** Number of the connection and length of what follows, four bytes each. @source containerd/nri v0.12 pkg/net/multiplex/mux.go */
const headBytes = 8;
/** A ttrpc frame with its head. @source containerd/nri v0.12 pkg/net/multiplex/mux.go `maxPayloadSize` */
const payloadBytesMax = ttrpcFrameBytesMax + 10;
/**
 * What the beginning of a message may be long: plugins read it into a buffer of this size, and give up over a longer piece. What is left of a message is read in one.
 *
 * @source containerd/nri v0.12 pkg/net/multiplex/mux.go `conn.Read`; containerd/ttrpc v1.2 channel.go
 */
const firstPieceBytesMax = 4096;
/** What waits for one connection at most before the socket is read no further. */
const waitingBytesMax = 1024 * 1024;

/**
 * Several connections over the one socket of a plugin.
 *
 * @source containerd/nri v0.12 pkg/net/multiplex/mux.go
 */
export class Multiplex {
  readonly #trunk: Duplex;
  readonly #connections = new Map<number, Duplex>();
  #head: Buffer = Buffer.alloc(0);
  #current: { readonly id: number; leftBytes: number } | undefined;

  /** @param trunk - Nobody else reads from it or writes to it. Read once `start` is called. */
  constructor(trunk: Duplex) {
    this.#trunk = trunk;
    trunk.on("error", () => trunk.destroy());
    trunk.on("end", () => trunk.destroy());
    trunk.on("close", () => this.#end());
  }

  /** Opens a connection by its number; to be called once for each, before `start`. */
  open(id: number): Duplex {
    const connection = new Duplex({
      readableHighWaterMark: waitingBytesMax,
      read: () => this.#resume(),
      write: (bytes: Buffer, _encoding, done) => this.#send(id, bytes, done),
      final: (done) => {
        // The protocol has no word for the end of one connection.
        this.#trunk.destroy();
        done();
      },
      destroy: (error, done) => {
        this.#trunk.destroy();
        done(error);
      },
    });
    this.#connections.set(id, connection);
    return connection;
  }

  /** Begins to read. */
  start(): void {
    this.#trunk.on("data", (bytes: Buffer) => this.#take(bytes));
  }

  /** Ends all connections. */
  close(): void {
    this.#trunk.destroy();
  }

  #take(bytes: Buffer): void {
    let rest = bytes;
    while (rest.length > 0) {
      rest = this.#current === undefined ? this.#takeHead(rest) : this.#takePayload(rest, this.#current);
    }
  }

  #takeHead(bytes: Buffer): Buffer {
    const taken = bytes.subarray(0, headBytes - this.#head.length);
    this.#head = Buffer.concat([this.#head, taken]);
    if (this.#head.length === headBytes) {
      const leftBytes = this.#head.readUInt32BE(4);
      if (leftBytes > payloadBytesMax) {
        this.#trunk.destroy();
        return Buffer.alloc(0);
      }
      this.#current = leftBytes === 0 ? undefined : { id: this.#head.readUInt32BE(0), leftBytes };
      this.#head = Buffer.alloc(0);
    }
    return bytes.subarray(taken.length);
  }

  #takePayload(bytes: Buffer, current: { readonly id: number; leftBytes: number }): Buffer {
    const piece = bytes.subarray(0, current.leftBytes);
    current.leftBytes -= piece.length;
    if (current.leftBytes === 0) {
      this.#current = undefined;
    }
    if (this.#connections.get(current.id)?.push(piece) === false) {
      this.#trunk.pause();
    }
    return bytes.subarray(piece.length);
  }

  #resume(): void {
    if (this.#trunk.isPaused()) {
      this.#trunk.resume();
    }
  }

  /** Sends one message of ttrpc, which is written in one. */
  #send(id: number, message: Buffer, done: (error?: Error | null) => void): void {
    const [first, rest] = [message.subarray(0, firstPieceBytesMax), message.subarray(firstPieceBytesMax)];
    this.#trunk.cork();
    this.#sendPiece(id, first, rest.length === 0 ? done : undefined);
    if (rest.length > 0) {
      this.#sendPiece(id, rest, done);
    }
    this.#trunk.uncork();
  }

  #sendPiece(id: number, piece: Buffer, done?: (error?: Error | null) => void): void {
    const head = Buffer.alloc(headBytes);
    head.writeUInt32BE(id, 0);
    head.writeUInt32BE(piece.length, 4);
    this.#trunk.write(head);
    this.#trunk.write(piece, done);
  }

  #end(): void {
    for (const connection of this.#connections.values()) {
      connection.push(null);
      connection.destroy();
    }
  }
}
