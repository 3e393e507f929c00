import { once } from "node:events";
import { rm } from "node:fs/promises";
import net from "node:net";

/** Frame types, flags and settings by number; tests spell them as RFC 9113 does and share nothing with the code under test. */
export const Type = {
  DATA: 0,
  HEADERS: 1,
  PRIORITY: 2,
  RST_STREAM: 3,
  SETTINGS: 4,
  PUSH_PROMISE: 5,
  PING: 6,
  GOAWAY: 7,
  WINDOW_UPDATE: 8,
  CONTINUATION: 9,
} as const;

export const Flags = { END_STREAM: 1, ACK: 1, END_HEADERS: 4, PADDED: 8, PRIORITY: 32 } as const;

export const Setting = {
  HEADER_TABLE_SIZE: 1,
  ENABLE_PUSH: 2,
  MAX_CONCURRENT_STREAMS: 3,
  INITIAL_WINDOW_SIZE: 4,
  MAX_FRAME_SIZE: 5,
  MAX_HEADER_LIST_SIZE: 6,
} as const;

export const preface: Buffer = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** A frame as it stood on the wire. */
export interface RawFrame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

/** Encodes a frame; nothing is checked. */
export function frame(type: number, flags: number, streamId: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const encoded = Buffer.alloc(9 + payload.length);
  encoded.writeUIntBE(payload.length, 0, 3);
  encoded[3] = type;
  encoded[4] = flags;
  encoded.writeUInt32BE(streamId >>> 0, 5);
  encoded.set(payload, 9);
  return encoded;
}

export function settings(values: Readonly<Record<number, number>> = {}): Buffer {
  const entries = Object.entries(values).map(([id, value]) => {
    const entry = Buffer.alloc(6);
    entry.writeUInt16BE(Number(id));
    entry.writeUInt32BE(value, 2);
    return entry;
  });
  return frame(Type.SETTINGS, 0, 0, Buffer.concat(entries));
}

export function windowUpdate(streamId: number, increment: number): Buffer {
  return frame(Type.WINDOW_UPDATE, 0, streamId, word(increment));
}

export function resetStream(streamId: number, code: number): Buffer {
  return frame(Type.RST_STREAM, 0, streamId, word(code));
}

export function goaway(lastStreamId: number, code: number): Buffer {
  return frame(Type.GOAWAY, 0, 0, Buffer.concat([word(lastStreamId), word(code)]));
}

/** Encodes a header block with literals only, without indexing and without Huffman coding. */
export function headerBlock(fields: Readonly<Record<string, string>>): Buffer {
  return Buffer.concat(
    Object.entries(fields).map(([name, value]) => Buffer.concat([Buffer.of(0), literal(name), literal(value)])),
  );
}

/** HEADERS in one frame. */
export function headers(streamId: number, fields: Readonly<Record<string, string>>, { end = false } = {}): Buffer {
  return frame(Type.HEADERS, Flags.END_HEADERS | (end ? Flags.END_STREAM : 0), streamId, headerBlock(fields));
}

export function data(streamId: number, payload: Uint8Array, { end = false } = {}): Buffer {
  return frame(Type.DATA, end ? Flags.END_STREAM : 0, streamId, payload);
}

/** The headers of a gRPC request. */
export function grpcRequest(path: string): Record<string, string> {
  return {
    ":method": "POST",
    ":scheme": "http",
    ":path": path,
    ":authority": "localhost",
    "content-type": "application/grpc",
    te: "trailers",
  };
}

/** A gRPC message with its five-byte prefix. */
export function grpcMessage(message: Uint8Array): Buffer {
  const framed = Buffer.alloc(5 + message.length);
  framed.writeUInt32BE(message.length, 1);
  framed.set(message, 5);
  return framed;
}

/** Reads a header block of literals without indexing or Huffman coding; anything else is an error. */
export function plainHeaders(block: Buffer): Record<string, string> {
  const fields: Record<string, string> = {};
  let at = 0;
  const string = (): string => {
    let length = block[at++] ?? 0;
    if (length === 0x7f) {
      let shift = 0;
      for (let octet = 0x80; (octet & 0x80) !== 0; shift += 7) {
        octet = block[at++] ?? 0;
        length += (octet & 0x7f) << shift;
      }
    }
    at += length;
    return block.toString("latin1", at - length, at);
  };
  while (at < block.length) {
    const form = block[at++];
    if (form !== 0) {
      throw new Error(`not a plain literal: ${String(form)} in ${block.toString("hex")}`);
    }
    const name = string();
    fields[name] = string();
  }
  return fields;
}

/** How long a test waits for something that must come. */
const waitMsMax = 10_000;

/**
 * One end of an HTTP/2 connection that does only what the test says, except that it acknowledges SETTINGS and PING, which
 * can be turned off. Every frame that arrives can be read once, in order.
 */
export class RawConnection {
  readonly socket: net.Socket;
  /** Frames that arrived and were not read. */
  readonly frames: RawFrame[] = [];
  isEnded = false;
  #received: Buffer = Buffer.alloc(0);
  #awaitsPreface: boolean;
  readonly #acknowledges: boolean;
  #wake: () => void = () => undefined;

  constructor(socket: net.Socket, options: { side: "client" | "server"; acknowledges?: boolean }) {
    this.socket = socket;
    this.#awaitsPreface = options.side === "server";
    this.#acknowledges = options.acknowledges ?? true;
    socket.on("data", (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk]);
      this.#parse();
      this.#wake();
    });
    const end = (): void => {
      this.isEnded = true;
      this.#wake();
    };
    socket.on("error", () => undefined);
    socket.on("end", end);
    socket.on("close", end);
  }

  /** Connects as a client and exchanges settings. */
  static async open(path: string, values: Readonly<Record<number, number>> = {}): Promise<RawConnection> {
    const socket = net.connect(path);
    await once(socket, "connect");
    const connection = new RawConnection(socket, { side: "client" });
    connection.send(preface, settings(values));
    await connection.next((candidate) => candidate.type === Type.SETTINGS && (candidate.flags & Flags.ACK) === 0);
    await connection.next((candidate) => candidate.type === Type.SETTINGS && (candidate.flags & Flags.ACK) !== 0);
    return connection;
  }

  send(...frames: readonly Uint8Array[]): void {
    this.socket.write(Buffer.concat(frames));
  }

  /**
   * Takes the next frame that fits; frames before it are thrown away.
   *
   * @throws An error when the connection ends or the frame does not come.
   */
  async next(fits: (candidate: RawFrame) => boolean): Promise<RawFrame> {
    const deadline = performance.now() + waitMsMax;
    for (;;) {
      for (let candidate = this.frames.shift(); candidate !== undefined; candidate = this.frames.shift()) {
        if (fits(candidate)) {
          return candidate;
        }
      }
      if (this.isEnded) {
        throw new Error("the connection ended before the frame came");
      }
      await this.#change(deadline);
    }
  }

  /** Takes the next frame of a type, on a stream if one is given. */
  nextOf(type: number, streamId?: number): Promise<RawFrame> {
    return this.next((found) => found.type === type && (streamId === undefined || found.streamId === streamId));
  }

  /** Collects the DATA of a stream until that many bytes or the end of the stream; other frames stay. */
  async readData(streamId: number, sizeBytes: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    let receivedBytes = 0;
    let ended = false;
    const deadline = performance.now() + waitMsMax;
    while (receivedBytes < sizeBytes && !ended) {
      const index = this.frames.findIndex((found) => found.type === Type.DATA && found.streamId === streamId);
      const [found] = index === -1 ? [] : this.frames.splice(index, 1);
      if (found !== undefined) {
        parts.push(found.payload);
        receivedBytes += found.payload.length;
        ended = (found.flags & Flags.END_STREAM) !== 0;
      } else if (this.isEnded) {
        throw new Error(`the connection ended after ${receivedBytes} of ${sizeBytes} bytes`);
      } else {
        await this.#change(deadline);
      }
    }
    return Buffer.concat(parts);
  }

  /** Waits until the other side has closed the connection. */
  async ended(): Promise<void> {
    const deadline = performance.now() + waitMsMax;
    while (!this.isEnded) {
      await this.#change(deadline);
    }
  }

  /** Sends a PING and waits for its answer: everything sent before has been handled then. */
  async roundTrip(): Promise<void> {
    const opaque = Buffer.alloc(8);
    opaque.writeDoubleBE(Math.random());
    this.send(frame(Type.PING, 0, 0, opaque));
    const deadline = performance.now() + waitMsMax;
    for (;;) {
      const index = this.frames.findIndex((found) => found.type === Type.PING && found.payload.equals(opaque));
      if (index !== -1) {
        this.frames.splice(index, 1);
        return;
      }
      if (this.isEnded) {
        throw new Error("the connection ended before the PING was answered");
      }
      await this.#change(deadline);
    }
  }

  close(): void {
    this.socket.destroy();
  }

  #change(deadline: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("nothing came in time")), deadline - performance.now());
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  #parse(): void {
    if (this.#awaitsPreface && this.#received.length >= preface.length) {
      if (!this.#received.subarray(0, preface.length).equals(preface)) {
        throw new Error("the client did not begin with the preface");
      }
      this.#received = this.#received.subarray(preface.length);
      this.#awaitsPreface = false;
    }
    while (!this.#awaitsPreface && this.#received.length >= 9) {
      const length = this.#received.readUIntBE(0, 3);
      if (this.#received.length < 9 + length) {
        return;
      }
      const found: RawFrame = {
        type: this.#received[3] ?? 0,
        flags: this.#received[4] ?? 0,
        streamId: this.#received.readUInt32BE(5) & 0x7fffffff,
        payload: this.#received.subarray(9, 9 + length),
      };
      this.#received = this.#received.subarray(9 + length);
      this.#acknowledge(found);
      this.frames.push(found);
    }
  }

  #acknowledge({ type, flags, payload }: RawFrame): void {
    if (!this.#acknowledges || (flags & Flags.ACK) !== 0) {
      return;
    }
    if (type === Type.SETTINGS) {
      this.send(frame(Type.SETTINGS, Flags.ACK, 0));
    } else if (type === Type.PING) {
      this.send(frame(Type.PING, Flags.ACK, 0, payload));
    }
  }
}

/** A server that hands each connection to the test. */
export class RawServer implements AsyncDisposable {
  readonly #server: net.Server;
  readonly #options: { readonly settings: Readonly<Record<number, number>> | undefined };
  readonly #waiting: RawConnection[] = [];
  readonly #all = new Set<RawConnection>();
  #isKilled = false;
  #wake: () => void = () => undefined;

  private constructor(server: net.Server, options: { settings: Readonly<Record<number, number>> | undefined }) {
    this.#server = server;
    this.#options = options;
    server.on("connection", (socket) => {
      const connection = new RawConnection(socket, { side: "server" });
      if (this.#options.settings !== undefined) {
        connection.send(settings(this.#options.settings));
      }
      this.#all.add(connection);
      this.#waiting.push(connection);
      this.#wake();
    });
  }

  /**
   * @param options - `settings`: what each connection sends at once, or undefined for nothing.
   */
  static async listen(
    path: string,
    options: { settings: Readonly<Record<number, number>> | undefined } = { settings: {} },
  ): Promise<RawServer> {
    await rm(path, { force: true });
    const server = net.createServer();
    const raw = new RawServer(server, options);
    server.listen(path);
    await once(server, "listening");
    return raw;
  }

  /** Takes the next connection. */
  async accept(): Promise<RawConnection> {
    const deadline = performance.now() + waitMsMax;
    for (;;) {
      const connection = this.#waiting.shift();
      if (connection !== undefined) {
        return connection;
      }
      if (this.#isKilled) {
        throw new Error("the server is killed");
      }
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error("no connection came in time")), deadline - performance.now());
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  /** Dies as a killed process does: no more connections, and all there are break. */
  kill(): void {
    this.#isKilled = true;
    this.#wake();
    this.#server.close();
    for (const connection of this.#all) {
      connection.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill();
    await Promise.resolve();
  }
}

function word(value: number): Buffer {
  const encoded = Buffer.alloc(4);
  encoded.writeUInt32BE(value >>> 0);
  return encoded;
}

function literal(text: string): Buffer {
  const bytes = Buffer.from(text, "latin1");
  const length: number[] = [];
  if (bytes.length < 0x7f) {
    length.push(bytes.length);
  } else {
    length.push(0x7f);
    let rest = bytes.length - 0x7f;
    for (; rest >= 0x80; rest >>= 7) {
      length.push((rest & 0x7f) | 0x80);
    }
    length.push(rest);
  }
  return Buffer.concat([Buffer.from(length), bytes]);
}
