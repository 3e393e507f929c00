import type { Socket } from "node:net";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { errorMessage } from "#base/errors.ts";
import { RequestSchema, ResponseSchema } from "#gen/ttrpc/ttrpc_pb.ts";
import { encodeFrame, type Frame, FrameParser, FrameType, oversizedMessage } from "#wire/ttrpc/frame.ts";

/** How the relay reaches the events process, and what it tells. */
export interface TtrpcRelayOptions {
  connectUpstream(): Socket;
  onWarning(fields: object, message: string): void;
}

/** A request that has no answer from the events process yet. */
interface Kept {
  readonly data: Buffer;
  readonly streamId: number;
  /** Whether it is an event, which outlives the connection that it came from. */
  readonly isEvent: boolean;
  /** Who waits for the answer; undefined when nobody does any more. */
  client: Socket | undefined;
  answerTimer: NodeJS.Timeout | undefined;
}

const reconnectMs = 25;
/** Pause after an answer that says that events cannot be stored now. */
const refusedMs = 250;
/**
 * How long a shim waits for the answer to an event. A shim gives up after 5 s, forgets what it has not told when it ends, and tells one
 * event after the other: exit and deletion must both be out of its hands in that time.
 *
 * @source containerd v1.6.20 runtime/v2/shim/publisher.go, shim.go
 */
const answerMsMax = 1_500;
/** Answers that a client may leave unread. */
const unreadBytesMax = 1024 * 1024;
const keptBytesMax = 16 * 1024 * 1024;

/**
 * The public ttrpc socket, on which shims tell their events. All connections share one to the events process.
 *
 * A request is kept until it is answered, and sent again when the events process dies or cannot store it; repeating an event is
 * harmless there. Events are kept even if their shim ends. A shim that has waited long is told that its event is taken: from then on only the
 * death of this process loses it.
 */
export class TtrpcRelay {
  readonly #options: TtrpcRelayOptions;
  readonly #clients = new Set<Socket>();
  /** In the order in which they came. */
  readonly #kept = new Set<Kept>();
  #keptBytes = 0;
  #sent = new Map<number, Kept>();
  #nextStreamId = 1;
  #upstream: Socket | undefined;
  #reconnectTimer: NodeJS.Timeout | undefined;
  #emptied: (() => void) | undefined;
  #isClosed = false;

  constructor(options: TtrpcRelayOptions) {
    this.#options = options;
  }

  /** Takes a connection over. Bytes that are not ttrpc close it. */
  handleConnection(client: Socket): void {
    client.on("error", () => client.destroy());
    if (this.#isClosed) {
      client.destroy();
      return;
    }
    this.#clients.add(client);
    // The listener keeps a side open that the other has closed; who hung up waits for nothing here.
    client.once("end", () => client.end());
    client.once("close", () => this.#forgetClient(client));
    const parser = new FrameParser();
    client.on("data", (chunk: Buffer) => {
      try {
        for (const frame of parser.push(chunk)) {
          if ("oversizedBytes" in frame) {
            const status = { code: Code.ResourceExhausted, message: oversizedMessage(frame.oversizedBytes).message };
            answer(client, frame.streamId, toBinary(ResponseSchema, create(ResponseSchema, { status })));
          } else if (frame.type === FrameType.Request) {
            this.#keep(client, frame);
          }
        }
      } catch {
        client.destroy();
      }
    });
  }

  /** Ends all connections as soon as what they brought is answered. @param drainMs - How long that may take. */
  async close(drainMs: number): Promise<void> {
    this.#isClosed = true;
    this.#clients.forEach((client) => client.pause());
    if (this.#kept.size > 0) {
      await new Promise<void>((resolve) => {
        const deadline = setTimeout(resolve, drainMs);
        this.#emptied = () => {
          clearTimeout(deadline);
          resolve();
        };
      });
    }
    clearTimeout(this.#reconnectTimer);
    this.#kept.forEach((kept) => clearTimeout(kept.answerTimer));
    this.#kept.clear();
    this.#upstream?.destroy();
    this.#clients.forEach((client) => client.destroySoon());
  }

  #keep(client: Socket, { streamId, data }: Frame): void {
    const kept: Kept = { data, streamId, isEvent: isForward(data), client, answerTimer: undefined };
    if (kept.isEvent) {
      kept.answerTimer = setTimeout(() => this.#answer(kept, new Uint8Array()), answerMsMax);
    }
    this.#kept.add(kept);
    this.#keptBytes += data.length;
    if (this.#keptBytes > keptBytesMax) {
      this.#clients.forEach((other) => other.pause());
    }
    if (this.#upstream !== undefined) {
      this.#send(this.#upstream, kept);
    } else if (this.#reconnectTimer === undefined) {
      this.#connect();
    }
  }

  #connect(): void {
    this.#reconnectTimer = undefined;
    const upstream = this.#options.connectUpstream();
    const parser = new FrameParser();
    this.#upstream = upstream;
    this.#sent = new Map();
    this.#nextStreamId = 1;
    let pauseMs = reconnectMs;
    upstream.on("error", () => upstream.destroy());
    upstream.once("end", () => upstream.destroy());
    upstream.once("close", () => {
      this.#upstream = undefined;
      if (this.#kept.size > 0) {
        this.#reconnectTimer = setTimeout(() => this.#connect(), pauseMs);
      }
    });
    upstream.on("data", (chunk: Buffer) => {
      try {
        for (const frame of parser.push(chunk)) {
          if (upstream.destroyed || "oversizedBytes" in frame || frame.type !== FrameType.Response) {
            continue;
          }
          if (isRefusal(frame.data)) {
            pauseMs = refusedMs;
            upstream.destroy();
          } else {
            this.#finish(frame);
          }
        }
      } catch (error) {
        this.#options.onWarning({ err: error }, `events broke the rules of ttrpc: ${errorMessage(error)}`);
        upstream.destroy();
      }
    });
    for (const kept of this.#kept) {
      this.#send(upstream, kept);
    }
  }

  #send(upstream: Socket, kept: Kept): void {
    const streamId = this.#nextStreamId;
    this.#nextStreamId += 2;
    this.#sent.set(streamId, kept);
    upstream.write(encodeFrame({ streamId, type: FrameType.Request, flags: 0, data: kept.data }));
  }

  #finish({ streamId, data }: Frame): void {
    const kept = this.#sent.get(streamId);
    this.#sent.delete(streamId);
    if (kept !== undefined) {
      if (kept.client === undefined && data.length > 0) {
        const { status } = fromBinary(ResponseSchema, data);
        if (status !== undefined && status.code !== 0) {
          this.#options.onWarning({ err: status.message }, "an event was refused after its shim had been answered");
        }
      }
      this.#answer(kept, data);
      this.#drop(kept);
    }
  }

  #answer(kept: Kept, data: Uint8Array): void {
    const { client } = kept;
    kept.client = undefined;
    if (client !== undefined) {
      answer(client, kept.streamId, data);
    }
  }

  #drop(kept: Kept): void {
    clearTimeout(kept.answerTimer);
    const wasFull = this.#keptBytes > keptBytesMax;
    if (this.#kept.delete(kept)) {
      this.#keptBytes -= kept.data.length;
    }
    if (wasFull && this.#keptBytes <= keptBytesMax && !this.#isClosed) {
      this.#clients.forEach((client) => client.isPaused() && client.resume());
    }
    if (this.#kept.size === 0) {
      this.#emptied?.();
    }
  }

  #forgetClient(client: Socket): void {
    this.#clients.delete(client);
    for (const kept of this.#kept) {
      if (kept.client === client) {
        kept.client = undefined;
        if (!kept.isEvent) {
          this.#drop(kept);
        }
      }
    }
  }
}

function answer(client: Socket, streamId: number, data: Uint8Array): void {
  if (client.writable) {
    client.write(encodeFrame({ streamId, type: FrameType.Response, flags: 0, data }));
  }
  if (client.writableLength > unreadBytesMax) {
    client.destroy();
  }
}

/** What cannot be read is no event; the events process says what is wrong with it. */
function isForward(data: Buffer): boolean {
  try {
    return fromBinary(RequestSchema, data).method === "Forward";
  } catch {
    return false;
  }
}

/** Whether an answer says that the same request may succeed later. */
function isRefusal(data: Buffer): boolean {
  const code = data.length === 0 ? 0 : (fromBinary(ResponseSchema, data).status?.code ?? 0);
  return code === Code.Unavailable || code === Code.DeadlineExceeded;
}
