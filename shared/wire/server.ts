import type { Duplex } from "node:stream";
import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { failureOf } from "./errors.ts";
import { trailersOnly } from "./grpc/answers.ts";
import type { CallContext } from "./grpc/server-call.ts";
import { StreamCall } from "./grpc/stream-call.ts";
import { UnaryCall } from "./grpc/unary-call.ts";
import type { ServiceBinding } from "./handler.ts";
import type { EndpointStream } from "./http2/endpoint-stream.ts";
import type { HeaderList } from "./http2/header-list.ts";
import { ErrorCode } from "./http2/protocol.ts";
import type { StreamEvents } from "./http2/stream-events.ts";
import { type ListenOptions, listen } from "./listen.ts";
import type { MessageLimits } from "./message-limits.ts";
import { type MethodTable, tableOfMethods } from "./method-table.ts";
import type { CallObserver, CallUnderWay } from "./observe.ts";
import { ServiceConnection, type StreamAcceptor } from "./service-connection.ts";

/** What a server answers. */
export interface RpcOptions {
  readonly services: readonly ServiceBinding[];
  /** Told of every call. */
  readonly observer?: CallObserver;
  /** Told of clients that break the rules of HTTP/2. */
  onWarning?(fields: object, message: string): void;
}

export interface RpcServerOptions extends RpcOptions, ListenOptions {}

/** A server of calls, without a socket of its own. */
export interface RpcHost {
  /** Serves a client on a connection that the caller has accepted. */
  accept(socket: Duplex): void;
  /** Answers one call on a stream of somebody else's connection. */
  acceptStream(stream: EndpointStream, request: HeaderList): void;
  /** The calls under way, but those on streams of somebody else's connections. */
  calls(): CallUnderWay[];
  /**
   * Tells clients by GOAWAY to make no more calls, waits for the running calls that change something, then drops every
   * connection. Calls without side effects, such as a Wait, are not waited for: who made them sends them again to the next
   * process.
   *
   * @param drainMs - How long running calls may take.
   */
  close(drainMs: number): Promise<void>;
}

/** A listening server. */
export interface RpcServer {
  /** The calls under way. */
  calls(): CallUnderWay[];
  /** Takes no new connection, and ends as {@link RpcHost.close} does. */
  close(drainMs: number): Promise<void>;
}

/**
 * Serves bound services on a Unix socket by gRPC, gRPC-web and the Connect protocol over HTTP/2.
 *
 * gRPC calls without compression are answered straight on their stream; everything else goes through Connect's handlers.
 * Unknown methods get UNIMPLEMENTED. Messages are limited to 16 MiB each way, unless the peer says otherwise by SETTINGS.
 *
 * @throws what {@link listen} throws.
 */
export async function serveRpc(options: RpcServerOptions): Promise<RpcServer> {
  const host = hostRpc(options);
  const server = await listen(options, (socket) => host.accept(socket));
  return {
    calls: () => host.calls(),
    async close(drainMs) {
      const closed = new Promise<void>((resolve) => {
        server.close(() => resolve());
      });
      await host.close(drainMs);
      await closed;
    },
  };
}

/** Serves bound services as {@link serveRpc} does, on connections that are handed over. */
export function hostRpc(options: RpcOptions): RpcHost {
  return new Host(options);
}

class Host implements RpcHost, StreamAcceptor, CallContext {
  readonly observer: CallObserver | undefined;
  stopReason: FlotillaError | undefined;
  readonly #options: RpcOptions;
  readonly #methods: MethodTable;
  readonly #connections = new Set<ServiceConnection>();
  /** The streams whose calls may change something. */
  readonly #changes = new Set<EndpointStream>();
  #onNoChanges: (() => void) | undefined;
  /** Connect's handlers, by the limits that they keep. There are two at most, since clients have two sockets. */
  readonly #universal = new Map<string, Promise<{ serve(stream: EndpointStream, request: HeaderList): void }>>();

  constructor(options: RpcOptions) {
    this.#options = options;
    this.observer = options.observer;
    this.#methods = tableOfMethods(options.services);
  }

  accept(socket: Duplex): void {
    if (this.stopReason !== undefined) {
      socket.destroy();
      return;
    }
    this.#connections.add(new ServiceConnection(socket, this));
  }

  async close(drainMs: number): Promise<void> {
    this.stopReason = failure(ErrorKind.Unavailable, "the process is stopping");
    for (const connection of this.#connections) {
      connection.drain();
    }
    await this.#changesEnded(drainMs);
    for (const connection of this.#connections) {
      connection.end();
    }
  }

  calls(): CallUnderWay[] {
    return [...this.#connections].flatMap(({ streams }) =>
      [...streams.values()].flatMap(({ events }) => events.call ?? []),
    );
  }

  acceptStream(stream: EndpointStream, request: HeaderList): void {
    const { path } = request.request;
    const served = this.#methods.get(path);
    if (served?.isHarmless !== true) {
      this.#changes.add(stream);
      stream.onOver = () => this.#changeOver(stream);
    }
    if (!isPlainGrpc(request)) {
      this.#serveUniversally(stream, request);
    } else if (served === undefined) {
      stream.events = new HeldBody(stream);
      stream.endWithHeaders(trailersOnly(failureOf(unansweredMethod(path))));
    } else if (served.method.methodKind === "unary") {
      stream.events = new UnaryCall(stream, served, request, this);
    } else {
      const call = new StreamCall(stream, served, request, this);
      stream.events = call;
      call.begin();
    }
  }

  #changeOver(stream: EndpointStream): void {
    if (this.#changes.delete(stream) && this.#changes.size === 0) {
      this.#onNoChanges?.();
    }
  }

  connectionGone(connection: ServiceConnection): void {
    this.#connections.delete(connection);
  }

  onWarning(error: unknown, message: string): void {
    this.#options.onWarning?.({ err: error }, message);
  }

  /** Loads Connect's handlers at the first call that needs them, and keeps what comes until they are there. */
  #serveUniversally(stream: EndpointStream, request: HeaderList): void {
    const held = new HeldBody(stream);
    stream.events = held;
    this.#universalOf(stream.messageLimits).then(
      (handlers) => {
        if (!stream.isOver) {
          handlers.serve(stream, request);
          held.replay(stream.events);
        }
      },
      (error: unknown) => {
        this.onWarning(error, "the handlers of Connect can't be loaded");
        stream.reset(ErrorCode.InternalError);
      },
    );
  }

  #universalOf(limits: MessageLimits): Promise<{ serve(stream: EndpointStream, request: HeaderList): void }> {
    const key = `${limits.receivedBytes} ${limits.sentBytes}`;
    let handlers = this.#universal.get(key);
    if (handlers === undefined) {
      handlers = this.#openUniversal(limits);
      this.#universal.set(key, handlers);
    }
    return handlers;
  }

  async #openUniversal(limits: MessageLimits): Promise<{ serve(stream: EndpointStream, request: HeaderList): void }> {
    const { UniversalHandlers } = await import("./connect/universal-handlers.ts");
    return new UniversalHandlers(this.#methods, this, limits);
  }

  /** Resolves when no call that may change something runs, or after the limit. */
  async #changesEnded(limitMs: number): Promise<void> {
    if (this.#changes.size > 0) {
      await new Promise<void>((resolve) => {
        const deadline = setTimeout(resolve, limitMs);
        this.#onNoChanges = () => {
          clearTimeout(deadline);
          resolve();
        };
      });
    }
  }
}

/** Keeps what comes of a body until somebody is there for it. */
class HeldBody implements StreamEvents {
  readonly #stream: EndpointStream;
  readonly #pieces: Buffer[] = [];
  #hasEnded = false;

  constructor(stream: EndpointStream) {
    this.#stream = stream;
  }

  onData(chunk: Buffer, start: number, end: number, isLast: boolean): void {
    if (this.#stream.isEndSent) {
      this.#stream.consume(end - start);
      return;
    }
    this.#pieces.push(Buffer.from(chunk.subarray(start, end)));
    this.#hasEnded = isLast;
  }

  onEnd(): void {
    this.#hasEnded = true;
  }

  onAbort(): void {
    for (const piece of this.#pieces) {
      this.#stream.consume(piece.length);
    }
  }

  replay(events: StreamEvents): void {
    for (const piece of this.#pieces) {
      events.onData(piece, 0, piece.length, false);
    }
    if (this.#hasEnded) {
      events.onEnd(undefined);
    }
  }
}

/** Tells whether a call can be answered without Connect's handlers: plain gRPC, nothing compressed. */
function isPlainGrpc(request: HeaderList): boolean {
  const { method, contentType } = request.request;
  if (method !== "POST" || (contentType !== "application/grpc" && contentType !== "application/grpc+proto")) {
    return false;
  }
  const encoding = request.find("grpc-encoding");
  return encoding === undefined || encoding === "identity";
}

/** In the words of grpc-go, whose clients look at the code alone. */
function unansweredMethod(path: string): FlotillaError {
  const [, service, method] = path.split("/");
  return new FlotillaError(ErrorKind.NotImplemented, `unknown method ${method ?? ""} for service ${service ?? ""}`);
}
