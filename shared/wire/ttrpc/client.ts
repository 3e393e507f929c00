import net from "node:net";
import type { Duplex } from "node:stream";
import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { timerMsMax } from "#base/limits.ts";
import { type Request, RequestSchema, type Response, ResponseSchema } from "#gen/ttrpc/ttrpc_pb.ts";
import { codeOf, codeOfSuccess } from "../errors.ts";
import type { CallObserver } from "../observe.ts";
import { parseSocketAddress } from "./address.ts";
import { encodeFrame, type Frame, FrameParser, FrameType, type OversizedFrame, oversizedMessage } from "./frame.ts";
import { connectionClosed, fromStatus } from "./status.ts";

/** What may be said about one call. */
export interface TtrpcCallOptions {
  /** Gives the call up. The protocol has no word for that, so the other side goes on. */
  readonly signal?: AbortSignal | undefined;
  /** After this the call fails with `deadline_exceeded`, on both sides. No limit unless given. */
  readonly timeoutMs?: number | undefined;
  /** Headers, such as {@link ttrpcNamespaceHeader}, by their lower-case names. */
  readonly metadata?: Readonly<Record<string, string>> | undefined;
  /** Calls the method of this service instead, whose messages must be the same on the wire. */
  readonly serviceName?: string | undefined;
}

/** A connection to a ttrpc server. Calls may run at the same time. */
export interface TtrpcClient {
  /**
   * Makes a unary call.
   *
   * @throws {@link FlotillaError} what the other side answered, with its text; `unavailable` "ttrpc: closed" when
   *   the connection ends first (see {@link isConnectionClosed}); `deadline_exceeded` or `canceled`.
   */
  unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options?: TtrpcCallOptions,
  ): Promise<MessageShape<O>>;
  /** Resolves once, when the connection has ended for whatever reason; never rejects. */
  readonly closed: Promise<void>;
  /** Ends the connection. Calls that are under way fail. */
  close(): void;
}

/** Stream ids are 32 bits wide and never used twice on one connection. */
const streamIdMax = 0xffff_ffff;

/**
 * Connects to a ttrpc server.
 *
 * @param address - `unix:///path`, a plain path, or the name of an abstract socket.
 * @param options - `timeoutMs` bounds the connecting only; no limit unless given. `observer` is told of
 *   every call.
 * @throws {@link FlotillaError} `unavailable` when nobody listens there or the time is up; `not_implemented` for
 *   other kinds of addresses.
 */
export async function connectTtrpc(
  address: string,
  options: { readonly timeoutMs?: number; readonly observer?: CallObserver | undefined } = {},
): Promise<TtrpcClient> {
  const socket = await connectSocket(parseSocketAddress(address), options.timeoutMs);
  return new Connection(socket, options.observer);
}

/** A client over a connection that is there already, and which it takes over. */
export function ttrpcClientOver(connection: Duplex): TtrpcClient {
  return new Connection(connection);
}

function connectSocket(path: string, timeoutMs: number | undefined): Promise<net.Socket> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ path });
    const fail = (error: Error): void => {
      clearTimeout(deadline);
      socket.destroy();
      reject(new FlotillaError(ErrorKind.Unavailable, error.message, { cause: error }));
    };
    const deadline =
      timeoutMs === undefined
        ? undefined
        : setTimeout(() => fail(new Error(`connect ${path}: ${ErrorKind.DeadlineExceeded}`)), timeoutMs);
    socket.once("error", fail);
    socket.once("connect", () => {
      clearTimeout(deadline);
      socket.off("error", fail);
      resolve(socket);
    });
  });
}

interface PendingCall {
  settle(response: Response): void;
  fail(error: Error): void;
}

class Connection implements TtrpcClient {
  readonly closed: Promise<void>;
  readonly #socket: Duplex;
  readonly #observer: CallObserver | undefined;
  readonly #parser = new FrameParser();
  readonly #pending = new Map<number, PendingCall>();
  #nextStreamId = 1;
  #isClosed = false;

  constructor(socket: Duplex, observer?: CallObserver) {
    this.#socket = socket;
    this.#observer = observer;
    this.closed = new Promise((resolve) => {
      socket.once("close", () => {
        this.#end();
        resolve();
      });
    });
    socket.on("error", () => socket.destroy());
    socket.on("data", (chunk: Buffer) => this.#receive(chunk));
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: TtrpcCallOptions = {},
  ): Promise<MessageShape<O>> {
    const beganMs = performance.now();
    const metadata = options.metadata ?? {};
    const rpc = `/${options.serviceName ?? method.parent.typeName}/${method.name}`;
    const watcher = this.#observer?.start?.("client", rpc, { find: (name) => metadata[name] });
    const fields = [...Object.entries(metadata), ...(watcher?.fields ?? [])];
    const envelope = create(RequestSchema, {
      service: options.serviceName ?? method.parent.typeName,
      method: method.name,
      payload: toBinary(method.input, create(method.input, request)),
      timeoutNano: options.timeoutMs === undefined ? 0n : BigInt(Math.ceil(options.timeoutMs * 1e6)),
      metadata: fields.map(([key, value]) => ({ key, value })),
    });
    watcher?.requestMessage(envelope.payload.byteLength);
    let response: Response;
    try {
      response = await this.#exchange(envelope, options);
    } catch (error) {
      watcher?.end(error instanceof FlotillaError ? codeOf(error.kind) : Code.Unknown, beganMs);
      throw error;
    }
    watcher?.responseMessage(response.payload.byteLength);
    watcher?.end(response.status?.code ?? codeOfSuccess, beganMs);
    if (response.status !== undefined && response.status.code !== 0) {
      throw fromStatus(response.status);
    }
    return fromBinary(method.output, response.payload);
  }

  close(): void {
    this.#socket.destroy();
    this.#end();
  }

  #exchange(envelope: Request, { signal, timeoutMs }: TtrpcCallOptions): Promise<Response> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        throw canceled(signal);
      }
      if (this.#isClosed || this.#nextStreamId > streamIdMax) {
        throw connectionClosed();
      }
      const streamId = this.#nextStreamId;
      const frame = encodeFrame({
        streamId,
        type: FrameType.Request,
        flags: 0,
        data: toBinary(RequestSchema, envelope),
      });
      this.#nextStreamId += 2;
      const release = (): void => {
        this.#pending.delete(streamId);
        clearTimeout(deadline);
        signal?.removeEventListener("abort", onAbort);
      };
      const call: PendingCall = {
        settle: (response) => {
          release();
          resolve(response);
        },
        fail: (error) => {
          release();
          reject(error);
        },
      };
      const onAbort = (): void => call.fail(canceled(signal));
      const deadline =
        timeoutMs === undefined
          ? undefined
          : setTimeout(
              () => call.fail(new FlotillaError(ErrorKind.DeadlineExceeded, ErrorKind.DeadlineExceeded)),
              Math.min(timeoutMs, timerMsMax),
            );
      signal?.addEventListener("abort", onAbort, { once: true });
      this.#pending.set(streamId, call);
      this.#socket.write(frame);
    });
  }

  #receive(chunk: Buffer): void {
    try {
      for (const frame of this.#parser.push(chunk)) {
        this.#accept(frame);
      }
    } catch (error) {
      this.#socket.destroy(error instanceof Error ? error : undefined);
    }
  }

  /** Frames for streams that are not pending belong to calls that were given up. */
  #accept(frame: Frame | OversizedFrame): void {
    const call = this.#pending.get(frame.streamId);
    if (call === undefined) {
      return;
    }
    if ("oversizedBytes" in frame) {
      call.fail(oversizedMessage(frame.oversizedBytes));
    } else if (frame.type === FrameType.Response) {
      call.settle(fromBinary(ResponseSchema, frame.data));
    } else {
      call.fail(
        new FlotillaError(ErrorKind.Unknown, `unexpected frame of type ${frame.type} received: protocol error`),
      );
    }
  }

  #end(): void {
    this.#isClosed = true;
    for (const call of this.#pending.values()) {
      call.fail(connectionClosed());
    }
  }
}

function canceled(signal: AbortSignal | undefined): Error {
  const reason: unknown = signal?.reason;
  return reason instanceof FlotillaError
    ? reason
    : new FlotillaError(ErrorKind.Canceled, ErrorKind.Canceled, { cause: reason });
}
