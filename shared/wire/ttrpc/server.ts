import type net from "node:net";
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { timerMsMax } from "#base/limits.ts";
import type { StatusSchema } from "#gen/google/rpc/status_pb.ts";
import { type Request, RequestSchema, ResponseSchema } from "#gen/ttrpc/ttrpc_pb.ts";
import { codeOf, codeOfSuccess, toConnectError } from "../errors.ts";
import { type Call, EncodedResponse, type ServiceBinding } from "../handler.ts";
import { namespaceHeader } from "../headers.ts";
import { type ListenOptions, listen } from "../listen.ts";
import type { CallObserver } from "../observe.ts";
import { encodeFrame, type Frame, FrameParser, FrameType, type OversizedFrame, oversizedMessage } from "./frame.ts";
import { ttrpcNamespaceHeader } from "./status.ts";

/** How many calls of one connection run at the same time unless the options say otherwise. */
const concurrentCallsMaxDefault = 256;
/** How many connections a server keeps unless the options say otherwise: one for each shim, and room. */
const connectionsMaxDefault = 8192;
const socketModeDefault = 0o600;

/** How to serve. The socket is for its owner alone unless a mode is given: the user of a peer is not asked for. */
export interface TtrpcServerOptions extends ListenOptions {
  /** Unary methods are served; others answer UNIMPLEMENTED. */
  readonly services: readonly ServiceBinding[];
  /** Told of every call. */
  readonly observer?: CallObserver;
  /** Calls of one connection that run at the same time, 256 unless given. Beyond them the connection is not read. */
  readonly concurrentCallsMax?: number;
}

/** A listening server. */
export interface TtrpcServer {
  /**
   * Takes no new connection, closes each connection when its running calls have been answered, and ends those
   * that take longer.
   *
   * @param drainMs - How long running calls may take.
   */
  close(drainMs: number): Promise<void>;
}

/**
 * Serves bound services on a Unix socket by ttrpc.
 *
 * `call.header("containerd-namespace")` also finds ttrpc's own name of that header, so the same handlers serve gRPC.
 * Bytes that are not ttrpc close their connection.
 *
 * @source containerd/ttrpc PROTOCOL.md; server.go and services.go for statuses of malformed requests
 */
export async function serveTtrpc(options: TtrpcServerOptions): Promise<TtrpcServer> {
  const methods = collectMethods(options.services);
  const connections = new Set<ServerConnection>();
  const listening = {
    ...options,
    socketMode: options.socketMode ?? socketModeDefault,
    connectionsMax: options.connectionsMax ?? connectionsMaxDefault,
  };
  const server = await listen(listening, (socket) => {
    const connection = new ServerConnection(socket, methods, options);
    connections.add(connection);
    socket.once("close", () => connections.delete(connection));
  });

  return {
    async close(drainMs) {
      const drained = new Promise<void>((resolve) => {
        server.close(() => resolve());
      });
      for (const connection of connections) {
        connection.closeWhenIdle();
      }
      const deadline = setTimeout(() => {
        for (const connection of connections) {
          connection.destroy(failure(ErrorKind.Unavailable, "the process is stopping"));
        }
      }, drainMs);
      await drained;
      clearTimeout(deadline);
    },
  };
}

type UnaryFunction = (
  request: MessageShape<DescMessage>,
  call: Call,
) => Promise<MessageInitShape<DescMessage> | EncodedResponse> | MessageInitShape<DescMessage> | EncodedResponse;

interface ServedMethod {
  readonly method: DescMethodUnary;
  readonly handler: UnaryFunction;
}

/** Methods by service and name. */
type MethodTable = ReadonlyMap<string, ReadonlyMap<string, ServedMethod>>;

function collectMethods(services: readonly ServiceBinding[]): MethodTable {
  const table = new Map<string, Map<string, ServedMethod>>();
  for (const { service, handlers } of services) {
    const methods = table.get(service.typeName) ?? new Map<string, ServedMethod>();
    table.set(service.typeName, methods);
    for (const method of service.methods) {
      const handler = handlers[method.localName];
      if (isUnary(method) && typeof handler === "function") {
        methods.set(method.name, { method, handler: handler as UnaryFunction });
      }
    }
  }
  return table;
}

function isUnary(method: DescMethod): method is DescMethodUnary {
  return method.methodKind === "unary";
}

class ServerConnection {
  readonly #socket: net.Socket;
  readonly #methods: MethodTable;
  readonly #options: TtrpcServerOptions;
  readonly #parser = new FrameParser();
  readonly #running = new Set<AbortController>();
  #lastStreamId = 0;
  #closing = false;

  constructor(socket: net.Socket, methods: MethodTable, options: TtrpcServerOptions) {
    this.#socket = socket;
    this.#methods = methods;
    this.#options = options;
    socket.on("error", () => socket.destroy());
    socket.on("data", (chunk: Buffer) => this.#receive(chunk));
    socket.on("end", () => socket.end());
    socket.on("drain", () => this.#adjustFlow());
    socket.once("close", () => this.#abort(new FlotillaError(ErrorKind.Canceled, ErrorKind.Canceled)));
  }

  closeWhenIdle(): void {
    this.#closing = true;
    this.#adjustFlow();
  }

  /** Fails what runs and closes as soon as these answers are on their way. */
  destroy(reason: Error): void {
    this.#abort(reason);
    setImmediate(() => this.#socket.destroySoon());
  }

  #abort(reason: Error): void {
    for (const controller of this.#running) {
      controller.abort(reason);
    }
  }

  /** Reads on as long as there is room for another call and the peer takes its answers. */
  #adjustFlow(): void {
    if (this.#closing && this.#running.size === 0) {
      this.#socket.end();
    }
    const isFull = this.#running.size >= (this.#options.concurrentCallsMax ?? concurrentCallsMaxDefault);
    if (this.#closing || isFull || this.#socket.writableNeedDrain) {
      this.#socket.pause();
    } else if (this.#socket.isPaused()) {
      this.#socket.resume();
    }
  }

  #receive(chunk: Buffer): void {
    try {
      for (const frame of this.#parser.push(chunk)) {
        this.#accept(frame);
      }
    } catch (error) {
      this.#socket.destroy(error instanceof Error ? error : undefined);
      return;
    }
    this.#adjustFlow();
  }

  #accept(frame: Frame | OversizedFrame): void {
    if ("oversizedBytes" in frame) {
      this.#answer(frame.streamId, statusOf(oversizedMessage(frame.oversizedBytes)));
    } else if (frame.streamId % 2 !== 1) {
      this.#refuse(frame.streamId, "StreamID must be odd for client initiated streams");
    } else if (frame.type === FrameType.Data) {
      this.#refuse(frame.streamId, "StreamID is no longer active");
    } else if (frame.type === FrameType.Request) {
      this.#acceptRequest(frame);
    }
  }

  #acceptRequest(frame: Frame): void {
    if (frame.streamId <= this.#lastStreamId) {
      this.#refuse(frame.streamId, "StreamID cannot be re-used and must increment");
      return;
    }
    this.#lastStreamId = frame.streamId;
    let request: Request;
    try {
      request = fromBinary(RequestSchema, frame.data);
    } catch (error) {
      this.#refuse(frame.streamId, `unmarshal request error: ${String(error)}`);
      return;
    }
    const methods = this.#methods.get(request.service);
    const served = methods?.get(request.method);
    if (served === undefined) {
      const message = methods === undefined ? `service ${request.service}` : `method ${request.method}`;
      this.#answer(frame.streamId, { code: Code.Unimplemented, message });
      return;
    }
    void this.#run(frame.streamId, request, served);
  }

  async #run(streamId: number, request: Request, { method, handler }: ServedMethod): Promise<void> {
    const controller = new AbortController();
    this.#running.add(controller);
    const timeoutMs = Number(request.timeoutNano) / 1e6;
    const deadline =
      timeoutMs > 0
        ? setTimeout(
            () => controller.abort(new FlotillaError(ErrorKind.DeadlineExceeded, ErrorKind.DeadlineExceeded)),
            Math.min(timeoutMs, timerMsMax),
          )
        : undefined;
    const rpc = `/${method.parent.typeName}/${method.name}`;
    const { observer } = this.#options;
    const watcher = observer?.start?.({ side: "server", rpc, header: headerOf(request) });
    watcher?.requestMessage(request.payload.byteLength);
    try {
      const answer = await settleOrAbort(callHandler(method, handler, request, controller.signal), controller.signal);
      watcher?.responseMessage(answer.byteLength);
      watcher?.end(codeOfSuccess);
      this.#answer(streamId, undefined, answer);
    } catch (thrown) {
      const error = toConnectError(thrown);
      observer?.failed?.({ rpc, error });
      watcher?.end(error.code);
      this.#answer(streamId, { code: error.code, message: error.rawMessage });
    } finally {
      clearTimeout(deadline);
      this.#running.delete(controller);
      this.#adjustFlow();
    }
  }

  #refuse(streamId: number, message: string): void {
    this.#answer(streamId, { code: Code.InvalidArgument, message });
  }

  #answer(streamId: number, status: MessageInitShape<typeof StatusSchema> | undefined, payload?: Uint8Array): void {
    if (!this.#socket.writable) {
      return;
    }
    const response = create(ResponseSchema, {
      ...(status === undefined ? {} : { status }),
      ...(payload === undefined ? {} : { payload }),
    });
    this.#socket.write(
      encodeFrame({ streamId, type: FrameType.Response, flags: 0, data: toBinary(ResponseSchema, response) }),
    );
  }
}

async function callHandler(
  method: DescMethodUnary,
  handler: UnaryFunction,
  request: Request,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const answer = await handler(decodePayload(method, request.payload), { header: headerOf(request), signal });
  return answer instanceof EncodedResponse ? answer.bytes : toBinary(method.output, create(method.output, answer));
}

function decodePayload(method: DescMethodUnary, payload: Uint8Array): MessageShape<DescMessage> {
  try {
    return fromBinary(method.input, payload);
  } catch (error) {
    const message = `ttrpc: error unmarshalling payload: ${String(error)}`;
    throw new FlotillaError(ErrorKind.Internal, message, { cause: error });
  }
}

function headerOf(request: Request): Call["header"] {
  const find = (name: string): string | undefined => request.metadata.find(({ key }) => key === name)?.value;
  return (name) => find(name) ?? (name === namespaceHeader ? find(ttrpcNamespaceHeader) : undefined);
}

/** The answer, or the signal's reason if that comes first. */
function settleOrAbort<T>(answer: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    answer.then(resolve, reject);
    signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true });
  });
}

function statusOf(error: FlotillaError): MessageInitShape<typeof StatusSchema> {
  return { code: codeOf(error.kind), message: error.message };
}
