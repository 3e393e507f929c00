import type { Duplex } from "node:stream";
import { constants, createDeflate } from "node:zlib";
import { headerDictionary } from "../../services/cri/streaming/spdy/header-dictionary.ts";
import { drained, type LocatedUrl, locate, requestUpgrade } from "./upgrade-client.ts";

const headBytes = 8;
const type = { synStream: 1, synReply: 2, rstStream: 3, ping: 6, goAway: 7 } as const;

/** One stream as a client has it. */
export class SpdyClientStream {
  readonly id: number;
  readonly #client: SpdyClient;
  readonly #received: Buffer[] = [];
  readonly #finished = Promise.withResolvers<void>();
  readonly replied = Promise.withResolvers<void>();
  /** Bytes that have come so far. */
  receivedBytes = 0;
  wasReset = false;
  /** Forgets what comes, but for how much it is. */
  keepsBytes = true;

  constructor(client: SpdyClient, id: number) {
    this.#client = client;
    this.id = id;
    this.replied.promise.catch(() => undefined);
  }

  /** Resolves when the server has ended the stream, or the connection has. */
  get finished(): Promise<void> {
    return this.#finished.promise;
  }

  get text(): string {
    return Buffer.concat(this.#received).toString();
  }

  /** Everything that came until the stream ended. */
  async readAll(): Promise<string> {
    await this.finished;
    return this.text;
  }

  /** Resolves when the connection takes more. */
  async write(bytes: Uint8Array | string): Promise<void> {
    await this.#client.sendData(this.id, Buffer.from(bytes), 0);
  }

  async end(): Promise<void> {
    await this.#client.sendData(this.id, Buffer.alloc(0), 1);
  }

  take(bytes: Buffer, isLast: boolean): void {
    this.receivedBytes += bytes.length;
    if (this.keepsBytes) {
      this.#received.push(bytes);
    }
    if (isLast) {
      this.#finished.resolve();
    }
  }

  reset(): void {
    this.wasReset = true;
    this.replied.reject(new Error(`stream ${this.id} was refused`));
    this.#finished.resolve();
  }

  connectionEnded(): void {
    this.#finished.resolve();
  }
}

/** A client that speaks SPDY/3.1 as those of Kubernetes do. */
export class SpdyClient implements Disposable {
  readonly socket: Duplex;
  readonly #deflate = createDeflate({ dictionary: headerDictionary, level: 9 });
  readonly #streams = new Map<number, SpdyClientStream>();
  readonly #closed = Promise.withResolvers<void>();
  #compressed: Buffer[] = [];
  #rest = Buffer.alloc(0);
  #nextId = 1;
  #turn: Promise<void> = Promise.resolve();
  #pings = new Map<number, () => void>();
  wasToldToGo = false;

  constructor(socket: Duplex) {
    this.socket = socket;
    this.#deflate.on("data", (bytes: Buffer) => this.#compressed.push(bytes));
    socket.on("data", (bytes: Buffer) => this.#take(bytes));
    socket.on("error", () => socket.destroy());
    socket.on("close", () => {
      this.#closed.resolve();
      for (const stream of this.#streams.values()) {
        stream.connectionEnded();
      }
    });
  }

  /** Resolves when the connection is over. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  /** Opens a stream and waits for the server's reply. @throws When the server refuses it. */
  async open(headers: Readonly<Record<string, string>>): Promise<SpdyClientStream> {
    const id = this.#nextId;
    this.#nextId += 2;
    return await this.openWithId(id, headers);
  }

  async openWithId(id: number, headers: Readonly<Record<string, string>>): Promise<SpdyClientStream> {
    const stream = new SpdyClientStream(this, id);
    this.#streams.set(id, stream);
    // Headers are compressed in the order in which they are sent.
    this.#turn = this.#turn.then(async () => {
      const block = await this.#compress(headers);
      this.socket.write(control(type.synStream, 0, number(id), number(0), Buffer.alloc(2), block));
    });
    await stream.replied.promise;
    return stream;
  }

  async sendData(id: number, bytes: Buffer, flags: number): Promise<void> {
    const head = Buffer.alloc(headBytes);
    head.writeUInt32BE(id);
    head.writeUInt8(flags, 4);
    head.writeUIntBE(bytes.length, 5, 3);
    if (!this.socket.write(Buffer.concat([head, bytes]))) {
      await drained(this.socket);
    }
  }

  async ping(): Promise<void> {
    const id = this.#nextId;
    await new Promise<void>((resolve) => {
      this.#pings.set(id, resolve);
      this.socket.write(control(type.ping, 0, number(id)));
    });
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
    this.#deflate.close();
  }

  async #compress(headers: Readonly<Record<string, string>>): Promise<Buffer> {
    const entries = Object.entries(headers).flat();
    const plain = Buffer.concat([
      number(entries.length / 2),
      ...entries.flatMap((text) => [number(Buffer.byteLength(text)), Buffer.from(text)]),
    ]);
    this.#compressed = [];
    this.#deflate.write(plain);
    await new Promise<void>((resolve) => this.#deflate.flush(constants.Z_SYNC_FLUSH, resolve));
    await new Promise(setImmediate);
    return Buffer.concat(this.#compressed);
  }

  #take(bytes: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, bytes]);
    while (this.#rest.length >= headBytes) {
      const length = headBytes + this.#rest.readUIntBE(5, 3);
      if (this.#rest.length < length) {
        return;
      }
      this.#handle(this.#rest.subarray(0, headBytes), this.#rest.subarray(headBytes, length));
      this.#rest = this.#rest.subarray(length);
    }
  }

  #handle(head: Buffer, payload: Buffer): void {
    const flags = head.readUInt8(4);
    if ((head.readUInt8(0) & 0x80) === 0) {
      this.#streams.get(head.readUInt32BE(0))?.take(Buffer.from(payload), (flags & 1) !== 0);
      return;
    }
    switch (head.readUInt16BE(2)) {
      case type.synReply:
        this.#streams.get(payload.readUInt32BE(0))?.replied.resolve();
        break;
      case type.rstStream:
        this.#streams.get(payload.readUInt32BE(0))?.reset();
        break;
      case type.ping:
        this.#pings.get(payload.readUInt32BE(0))?.();
        break;
      case type.goAway:
        this.wasToldToGo = true;
        break;
      default:
        throw new Error(`unexpected frame ${head.toString("hex")}`);
    }
  }
}

/** Connects to an address of the streaming server. @throws When it does not switch to SPDY. */
export async function connectSpdy(url: string | LocatedUrl, ...protocols: readonly string[]): Promise<SpdyClient> {
  const place = locate(url);
  const { status, headers, socket } = await requestUpgrade(
    place.url,
    [
      "Connection: Upgrade",
      "Upgrade: SPDY/3.1",
      "Content-Length: 0",
      ...protocols.map((protocol) => `X-Stream-Protocol-Version: ${protocol}`),
    ],
    { method: "POST", networkNamespace: place.networkNamespace },
  );
  if (status !== 101 || headers.get("upgrade") !== "SPDY/3.1") {
    socket.destroy();
    throw new Error(`the server answered ${status}`);
  }
  return new SpdyClient(socket);
}

function control(frameType: number, flags: number, ...payload: readonly Buffer[]): Buffer {
  const body = Buffer.concat(payload);
  const head = Buffer.alloc(headBytes);
  head.writeUInt16BE(0x8003);
  head.writeUInt16BE(frameType, 2);
  head.writeUInt8(flags, 4);
  head.writeUIntBE(body.length, 5, 3);
  return Buffer.concat([head, body]);
}

function number(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
