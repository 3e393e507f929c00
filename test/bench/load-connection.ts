import { once } from "node:events";
import net from "node:net";

/** What a load of calls came to. */
export interface LoadResult {
  readonly calls: number;
  readonly elapsedMs: number;
  /** Time of each call, in no order. */
  readonly latenciesMs: Float64Array;
  readonly receivedBytes: number;
}

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const frameHeaderBytes = 9;
const frameType = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, goaway: 7, windowUpdate: 8 } as const;
const endStream = 1;
const acknowledgement = 1;
const endHeaders = 4;
const setting = { headerTableSize: 1, initialWindowSize: 4 } as const;
const windowBytes = 2 ** 30;
/** Received bytes after which the window of the connection is opened again. */
const windowUpdateBytes = 2 ** 24;
const initialWindowBytes = 65_535;

/**
 * A gRPC client that sends one and the same unary call over and over, and costs as little as possible, so that the server is
 * what is measured. It speaks HTTP/2 by hand: requests are written from ready bytes, of answers only the frame headers are
 * looked at. As Go's client does, it lets the server keep the request's headers in its table, if the server has one.
 */
export class LoadConnection {
  readonly #socket: net.Socket;
  readonly #headers: RequestHeaders;
  readonly #body: Buffer;
  #waiting: (error?: Error) => void = () => undefined;
  #header = Buffer.alloc(frameHeaderBytes);
  #headerBytes = 0;
  #payloadBytes = 0;
  #payload: Buffer | undefined;
  #frame = { type: 0, flags: 0, streamId: 0 };
  #hasSettings = false;
  #sendWindow = initialWindowBytes;
  #unacknowledgedBytes = 0;
  #nextStreamId = 1;
  readonly #calls = new Map<number, { readonly startedMs: number; bytes: number }>();
  #latencies: number[] = [];
  #receivedBytes = 0;
  #deadlineMs = 0;
  #inFlight = 0;
  #output: Buffer[] = [];

  private constructor(socket: net.Socket, headers: Readonly<Record<string, string>>, message: Uint8Array) {
    this.#socket = socket;
    this.#headers = new RequestHeaders(headers);
    this.#body = Buffer.alloc(5 + message.length);
    this.#body.writeUInt32BE(message.length, 1);
    this.#body.set(message, 5);
    socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    socket.on("error", (error) => this.#waiting(error));
    socket.on("close", () => this.#waiting(new Error("the server closed the connection")));
  }

  /**
   * Connects, and waits for the server's settings.
   *
   * @param call.path - `/package.Service/Method`.
   * @param call.message - Encoded request; an encoded answer must not be empty, since that is what failures look like.
   */
  static async open(
    socketPath: string,
    call: { readonly path: string; readonly namespace: string; readonly message: Uint8Array },
  ): Promise<LoadConnection> {
    const socket = net.connect(socketPath);
    await once(socket, "connect");
    const headers = {
      ":method": "POST",
      ":scheme": "http",
      ":path": call.path,
      ":authority": "localhost",
      "content-type": "application/grpc",
      "user-agent": "flotilla-bench",
      te: "trailers",
      "containerd-namespace": call.namespace,
    };
    const connection = new LoadConnection(socket, headers, call.message);
    socket.write(
      Buffer.concat([
        preface,
        settingsFrame({ [setting.initialWindowSize]: windowBytes }),
        windowUpdate(windowBytes - initialWindowBytes),
      ]),
    );
    await connection.#until(() => connection.#hasSettings);
    return connection;
  }

  /** Keeps a number of calls in flight for a time, and then waits for the last of them. */
  async run({ inFlight, durationMs }: { readonly inFlight: number; readonly durationMs: number }): Promise<LoadResult> {
    this.#latencies = [];
    this.#receivedBytes = 0;
    const startedMs = performance.now();
    this.#deadlineMs = startedMs + durationMs;
    for (this.#inFlight = 0; this.#inFlight < inFlight; this.#inFlight += 1) {
      this.#start();
    }
    this.#flush();
    await this.#until(() => this.#inFlight === 0);
    return {
      calls: this.#latencies.length,
      elapsedMs: performance.now() - startedMs,
      latenciesMs: Float64Array.from(this.#latencies),
      receivedBytes: this.#receivedBytes,
    };
  }

  close(): void {
    this.#socket.destroy();
  }

  async #until(isSo: () => boolean): Promise<void> {
    while (!isSo()) {
      await new Promise<void>((resolve, reject) => {
        this.#waiting = (error) => (error === undefined ? resolve() : reject(error));
      });
    }
  }

  #start(): void {
    const streamId = this.#nextStreamId;
    this.#nextStreamId += 2;
    this.#calls.set(streamId, { startedMs: performance.now(), bytes: 0 });
    this.#sendWindow -= this.#body.length;
    if (this.#sendWindow < 0) {
      throw new Error("the server does not open its window");
    }
    this.#output.push(
      frame(frameType.headers, endHeaders, streamId, this.#headers.next()),
      frame(frameType.data, endStream, streamId, this.#body),
    );
  }

  #flush(): void {
    if (this.#output.length > 0) {
      this.#socket.write(Buffer.concat(this.#output));
      this.#output = [];
    }
  }

  #receive(chunk: Buffer): void {
    try {
      for (let at = 0; at < chunk.length; ) {
        at = this.#headerBytes < frameHeaderBytes ? this.#takeHeader(chunk, at) : this.#takePayload(chunk, at);
      }
      this.#flush();
      if (this.#inFlight === 0 || !this.#hasSettings) {
        this.#waiting();
      }
    } catch (error) {
      this.#waiting(error instanceof Error ? error : new Error(String(error)));
    }
  }

  #takeHeader(chunk: Buffer, at: number): number {
    const taken = chunk.copy(this.#header, this.#headerBytes, at, at + frameHeaderBytes - this.#headerBytes);
    this.#headerBytes += taken;
    if (this.#headerBytes === frameHeaderBytes) {
      const [type = 0, flags = 0] = this.#header.subarray(3, 5);
      this.#frame = { type, flags, streamId: this.#header.readUInt32BE(5) };
      this.#payloadBytes = this.#header.readUIntBE(0, 3);
      this.#payload = type === frameType.data || type === frameType.headers ? undefined : Buffer.alloc(0);
      if (type === frameType.data) {
        this.#countData(this.#payloadBytes);
      }
      if (this.#payloadBytes === 0) {
        this.#endFrame();
      }
    }
    return at + taken;
  }

  #takePayload(chunk: Buffer, at: number): number {
    const taken = Math.min(this.#payloadBytes, chunk.length - at);
    if (this.#payload !== undefined) {
      this.#payload = Buffer.concat([this.#payload, chunk.subarray(at, at + taken)]);
    }
    this.#payloadBytes -= taken;
    if (this.#payloadBytes === 0) {
      this.#endFrame();
    }
    return at + taken;
  }

  #countData(bytes: number): void {
    const call = this.#calls.get(this.#frame.streamId);
    if (call !== undefined) {
      call.bytes += bytes;
    }
    this.#receivedBytes += bytes;
    this.#unacknowledgedBytes += bytes;
    if (this.#unacknowledgedBytes >= windowUpdateBytes) {
      this.#output.push(windowUpdate(this.#unacknowledgedBytes));
      this.#unacknowledgedBytes = 0;
    }
  }

  #endFrame(): void {
    this.#headerBytes = 0;
    const { type, flags, streamId } = this.#frame;
    const payload = this.#payload ?? Buffer.alloc(0);
    if (type === frameType.settings && (flags & acknowledgement) === 0) {
      this.#takeSettings(payload);
    } else if (type === frameType.ping && (flags & acknowledgement) === 0) {
      this.#output.push(frame(frameType.ping, acknowledgement, 0, payload));
    } else if (type === frameType.windowUpdate && streamId === 0) {
      this.#sendWindow += payload.readUInt32BE(0);
    } else if ((type === frameType.reset && this.#calls.has(streamId)) || type === frameType.goaway) {
      // Of a call that has been answered it means nothing: Go's server may send it when it is quicker than its own reader.
      throw new Error(`the server sent a frame of type ${type} for stream ${streamId}`);
    } else if ((type === frameType.headers || type === frameType.data) && (flags & endStream) !== 0) {
      this.#endCall(streamId);
    }
  }

  #takeSettings(payload: Buffer): void {
    for (let at = 0; at + 6 <= payload.length; at += 6) {
      if (payload.readUInt16BE(at) === setting.headerTableSize) {
        this.#headers.limitTable(payload.readUInt32BE(at + 2));
      }
    }
    this.#output.push(frame(frameType.settings, acknowledgement, 0));
    this.#hasSettings = true;
    this.#flush();
    this.#waiting();
  }

  #endCall(streamId: number): void {
    const call = this.#calls.get(streamId);
    this.#calls.delete(streamId);
    if (call === undefined || call.bytes === 0) {
      throw new Error("a call failed");
    }
    const now = performance.now();
    this.#latencies.push(now - call.startedMs);
    if (now < this.#deadlineMs) {
      this.#start();
    } else {
      this.#inFlight -= 1;
    }
  }
}

/** The header block of the one request: in full, and by references once the server has it in its table. */
class RequestHeaders {
  readonly #fields: readonly (readonly [name: string, value: string])[];
  #hasTable = true;
  #isKnown = false;
  #later: Buffer | undefined;

  constructor(fields: Readonly<Record<string, string>>) {
    this.#fields = Object.entries(fields);
  }

  limitTable(bytes: number): void {
    this.#hasTable = bytes > 0;
  }

  /** The block for the next request on the connection. */
  next(): Buffer {
    if (this.#isKnown) {
      this.#later ??= Buffer.concat(
        this.#hasTable
          ? this.#fields.map((_, index) => Buffer.from([0x80 | (62 + this.#fields.length - 1 - index)]))
          : this.#fields.map(([name, value]) => literalField(0, name, value)),
      );
      return this.#later;
    }
    this.#isKnown = true;
    const kind = this.#hasTable ? 0x40 : 0;
    // A server that wants no table is owed the update that says so, before its first block. RFC 7541, 4.2.
    const update = this.#hasTable ? Buffer.alloc(0) : Buffer.from([0x20]);
    return Buffer.concat([update, ...this.#fields.map(([name, value]) => literalField(kind, name, value))]);
  }
}

/** @source RFC 7541, 6.2 */
function literalField(kind: number, name: string, value: string): Buffer {
  return Buffer.concat([
    Buffer.from([kind, name.length]),
    Buffer.from(name),
    Buffer.from([value.length]),
    Buffer.from(value),
  ]);
}

function settingsFrame(values: Readonly<Record<number, number>>): Buffer {
  const payload = Buffer.alloc(6 * Object.keys(values).length);
  Object.entries(values).forEach(([id, value], index) => {
    payload.writeUInt16BE(Number(id), index * 6);
    payload.writeUInt32BE(value, index * 6 + 2);
  });
  return frame(frameType.settings, 0, 0, payload);
}

function windowUpdate(bytes: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(bytes);
  return frame(frameType.windowUpdate, 0, 0, payload);
}

function frame(type: number, flags: number, streamId: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  const encoded = Buffer.allocUnsafe(frameHeaderBytes + payload.length);
  encoded.writeUIntBE(payload.length, 0, 3);
  encoded[3] = type;
  encoded[4] = flags;
  encoded.writeUInt32BE(streamId, 5);
  encoded.set(payload, frameHeaderBytes);
  return encoded;
}
