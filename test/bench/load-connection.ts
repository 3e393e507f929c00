import { once } from "node:events";
import net from "node:net";
import { HeaderTable, RequestHeaders } from "./load-headers.ts";

/** What a load of turns came to. */
export interface LoadResult {
  readonly turns: number;
  readonly elapsedMs: number;
  /** Time of each turn, in no order. */
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

/** A call that is the same each time. */
export interface LoadRequest {
  /** `/package.Service/Method`. */
  readonly path: string;
  /** Encoded request; an encoded answer must not be empty, since that is what failures look like. */
  readonly message: Uint8Array;
}

/** Calls that are made one after the other. */
interface Turn {
  readonly startedMs: number;
  /** Which of the requests is under way. */
  step: number;
  /** Received for it. */
  bytes: number;
}

/**
 * A gRPC client that makes the same calls with one request each over and over, and costs as little as possible, so that the server is
 * what is measured. It speaks HTTP/2 by hand: requests are written from ready bytes, of answers only the frame headers are
 * looked at. As Go's client does, it lets the server keep the request's headers in its table, if the server has one.
 */
export class LoadConnection {
  readonly #socket: net.Socket;
  readonly #requests: readonly { readonly headers: RequestHeaders; readonly body: Buffer }[];
  readonly #table = new HeaderTable();
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
  readonly #turns = new Map<number, Turn>();
  #latencies: number[] = [];
  #receivedBytes = 0;
  #deadlineMs = 0;
  #inFlight = 0;
  #output: Buffer[] = [];

  private constructor(socket: net.Socket, namespace: string, requests: readonly LoadRequest[]) {
    this.#socket = socket;
    this.#requests = requests.map(({ path, message }) => {
      const body = Buffer.alloc(5 + message.length);
      body.writeUInt32BE(message.length, 1);
      body.set(message, 5);
      return { headers: new RequestHeaders(this.#table, path, namespace), body };
    });
    socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    socket.on("error", (error) => this.#waiting(error));
    socket.on("close", () => this.#waiting(new Error("the server closed the connection")));
  }

  /** Connects, and waits for the server's settings. */
  static async open(
    socketPath: string,
    { namespace, requests }: { readonly namespace: string; readonly requests: readonly LoadRequest[] },
  ): Promise<LoadConnection> {
    const socket = net.connect(socketPath);
    await once(socket, "connect");
    const connection = new LoadConnection(socket, namespace, requests);
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

  /** Keeps a number of turns under way for a time, and then waits for the last of them; each is made at least once. */
  async run({ inFlight, durationMs }: { readonly inFlight: number; readonly durationMs: number }): Promise<LoadResult> {
    this.#latencies = [];
    this.#receivedBytes = 0;
    const startedMs = performance.now();
    this.#deadlineMs = startedMs + durationMs;
    for (this.#inFlight = 0; this.#inFlight < inFlight; this.#inFlight += 1) {
      this.#startTurn();
    }
    this.#flush();
    await this.#until(() => this.#inFlight === 0);
    return {
      turns: this.#latencies.length,
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

  #startTurn(): void {
    this.#startCall({ startedMs: performance.now(), step: 0, bytes: 0 });
  }

  #startCall(turn: Turn): void {
    const streamId = this.#nextStreamId;
    this.#nextStreamId += 2;
    const request = this.#requests[turn.step];
    if (request === undefined) {
      throw new Error("a turn without calls");
    }
    this.#turns.set(streamId, turn);
    this.#sendWindow -= request.body.length;
    if (this.#sendWindow < 0) {
      throw new Error("the server does not open its window");
    }
    this.#output.push(
      frame(frameType.headers, endHeaders, streamId, request.headers.next()),
      frame(frameType.data, endStream, streamId, request.body),
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
    const turn = this.#turns.get(this.#frame.streamId);
    if (turn !== undefined) {
      turn.bytes += bytes;
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
    } else if ((type === frameType.reset && this.#turns.has(streamId)) || type === frameType.goaway) {
      // Of a call that has been answered it means nothing: Go's server may send it when it is quicker than its own reader.
      throw new Error(`the server sent a frame of type ${type} for stream ${streamId}`);
    } else if ((type === frameType.headers || type === frameType.data) && (flags & endStream) !== 0) {
      this.#endCall(streamId);
    }
  }

  #takeSettings(payload: Buffer): void {
    for (let at = 0; at + 6 <= payload.length; at += 6) {
      if (payload.readUInt16BE(at) === setting.headerTableSize) {
        this.#table.limit(payload.readUInt32BE(at + 2));
      }
    }
    this.#output.push(frame(frameType.settings, acknowledgement, 0));
    this.#hasSettings = true;
    this.#flush();
    this.#waiting();
  }

  #endCall(streamId: number): void {
    const turn = this.#turns.get(streamId);
    this.#turns.delete(streamId);
    if (turn === undefined || turn.bytes === 0) {
      throw new Error("a call failed");
    }
    if (turn.step + 1 < this.#requests.length) {
      turn.step += 1;
      turn.bytes = 0;
      this.#startCall(turn);
      return;
    }
    const now = performance.now();
    this.#latencies.push(now - turn.startedMs);
    if (now < this.#deadlineMs) {
      this.#startTurn();
    } else {
      this.#inFlight -= 1;
    }
  }
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
