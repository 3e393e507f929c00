import { randomBytes } from "node:crypto";
import { Duplex } from "node:stream";
import { drained, type LocatedUrl, locate, requestUpgrade } from "./upgrade-client.ts";

const opcode = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** A message as it came. */
export interface WebSocketMessage {
  readonly isText: boolean;
  readonly bytes: Buffer;
}

/** A client that speaks WebSocket, with any names of protocols. */
export class WebSocketClient implements Disposable {
  readonly socket: Duplex;
  /** What the server agreed upon. */
  readonly protocol: string;
  readonly #onMessage: ((message: WebSocketMessage) => void)[] = [];
  readonly #closed = Promise.withResolvers<number>();
  #rest = Buffer.alloc(0);
  readonly #pieces: Buffer[] = [];

  constructor(socket: Duplex, protocol: string) {
    this.socket = socket;
    this.protocol = protocol;
    socket.on("data", (bytes: Buffer) => this.#take(bytes));
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.#closed.resolve(1006));
  }

  /** Resolves with the code by which the server closed, or 1006. */
  get closed(): Promise<number> {
    return this.#closed.promise;
  }

  onMessage(listener: (message: WebSocketMessage) => void): void {
    this.#onMessage.push(listener);
  }

  /** Resolves when the connection takes more. */
  async send(bytes: Uint8Array | string): Promise<void> {
    await this.#send(typeof bytes === "string" ? opcode.text : opcode.binary, Buffer.from(bytes));
  }

  async close(): Promise<void> {
    await this.#send(opcode.close, Buffer.from([1000 >> 8, 1000 & 0xff]));
  }

  /** The messages in both directions as one stream of bytes, for a protocol inside. */
  asDuplex(): Duplex {
    const duplex = new Duplex({
      read: () => this.socket.resume(),
      write: (bytes: Buffer, _encoding, done) => void this.send(bytes).then(() => done(), done),
      final: (done) => void this.close().then(() => done(), done),
      destroy: (error, done) => {
        this.socket.destroy();
        done(error);
      },
    });
    this.onMessage(({ bytes }) => {
      if (!duplex.push(bytes)) {
        this.socket.pause();
      }
    });
    void this.closed.then(() => duplex.destroy());
    return duplex;
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }

  async #send(code: number, bytes: Buffer): Promise<void> {
    const mask = randomBytes(4);
    const head = Buffer.concat([Buffer.from([0x80 | code]), lengthOf(bytes.length), mask]);
    const masked = Buffer.from(bytes.map((byte, index) => byte ^ (mask[index % 4] ?? 0)));
    if (!this.socket.write(Buffer.concat([head, masked]))) {
      await drained(this.socket);
    }
  }

  #take(bytes: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    for (;;) {
      const short = (this.#rest[1] ?? 0) & 0x7f;
      const headBytes = 2 + (short === 127 ? 8 : short === 126 ? 2 : 0);
      if (this.#rest.length < Math.max(2, headBytes)) {
        return;
      }
      const length =
        short === 127 ? Number(this.#rest.readBigUInt64BE(2)) : short === 126 ? this.#rest.readUInt16BE(2) : short;
      if (this.#rest.length < headBytes + length) {
        return;
      }
      this.#handle(this.#rest[0] ?? 0, Buffer.from(this.#rest.subarray(headBytes, headBytes + length)));
      this.#rest = this.#rest.subarray(headBytes + length);
    }
  }

  #handle(first: number, payload: Buffer): void {
    const code = first & 0x0f;
    if (code === opcode.close) {
      this.#closed.resolve(payload.length >= 2 ? payload.readUInt16BE(0) : 1005);
      void this.close().then(() => this.socket.end());
    } else if (code === opcode.ping) {
      void this.#send(opcode.pong, payload);
    } else if (code !== opcode.pong) {
      this.#pieces.push(payload);
      if ((first & 0x80) !== 0) {
        const message = { isText: code === opcode.text, bytes: Buffer.concat(this.#pieces.splice(0)) };
        for (const listener of this.#onMessage) {
          listener(message);
        }
      }
    }
  }
}

/** Connects to an address of the streaming server. @throws When it does not switch to WebSocket. */
export async function connectWebSocket(
  url: string | LocatedUrl,
  ...protocols: readonly string[]
): Promise<WebSocketClient> {
  const place = locate(url);
  const { status, headers, socket } = await requestUpgrade(
    place.url,
    [
      "Connection: Upgrade",
      "Upgrade: websocket",
      "Sec-WebSocket-Version: 13",
      `Sec-WebSocket-Key: ${randomBytes(16).toString("base64")}`,
      ...(protocols.length === 0 ? [] : [`Sec-WebSocket-Protocol: ${protocols.join(", ")}`]),
    ],
    { networkNamespace: place.networkNamespace },
  );
  if (status !== 101) {
    socket.destroy();
    throw new Error(`the server answered ${status}`);
  }
  return new WebSocketClient(socket, headers.get("sec-websocket-protocol") ?? "");
}

function lengthOf(length: number): Buffer {
  const masked = 0x80;
  if (length < 126) {
    return Buffer.from([masked | length]);
  }
  if (length <= 0xffff) {
    return Buffer.from([masked | 126, length >> 8, length & 0xff]);
  }
  const bytes = Buffer.alloc(9);
  bytes.writeUInt8(masked | 127);
  bytes.writeBigUInt64BE(BigInt(length), 1);
  return bytes;
}
