import { chmod, mkdir, rm } from "node:fs/promises";
import http2 from "node:http2";
import { dirname } from "node:path";
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodUnary,
  fromBinary,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { Code, type ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { messageBytesMax, socketPathBytesMax } from "#base/limits.ts";
import { announcedBytes, encodeGrpcMessage, frameMessage, parseGrpcTimeout, unframeMessage } from "./grpc-wire.ts";
import { type Call, EncodedResponse, type ServiceBinding } from "./handler.ts";
import {
  asText,
  decodeRequest,
  type FailedCall,
  reportFailure,
  takesThinPath,
  tooLarge,
  trailersOnly,
} from "./thin-answer.ts";
import { type StreamingMethod, serveThinStream } from "./thin-stream.ts";
import { connectionWindowBytes, serviceSettings, sessionMemoryMegabytesMax } from "./transport-settings.ts";
import { typeRegistry } from "./type-registry.ts";

export type { FailedCall } from "./thin-answer.ts";

export interface RpcServerOptions {
  /** Where to listen. A stale socket is removed first. At most 104 bytes. */
  readonly socketPath: string;
  /** Permission bits of the socket, 0o660 unless given. */
  readonly socketMode?: number;
  readonly services: readonly ServiceBinding[];
  /** Told of every call that failed, exactly once. */
  readonly onFailure: (failed: FailedCall) => void;
}

/** A listening server. */
export interface RpcServer {
  /**
   * Takes no new connection, waits for the running calls that change something, then drops every connection. Calls without
   * side effects, such as a Wait, are not waited for: who made them sends them again to the next process.
   *
   * @param drainMs - How long running calls may take.
   */
  close(drainMs: number): Promise<void>;
}

type UnaryFunction = (
  request: MessageShape<DescMessage>,
  call: Call,
) => Promise<MessageShape<DescMessage> | EncodedResponse> | MessageShape<DescMessage> | EncodedResponse;

interface ThinMethod {
  readonly method: DescMethodUnary;
  readonly handler: UnaryFunction;
}

/**
 * Serves bound services on a Unix socket by gRPC, gRPC-web and the Connect protocol over HTTP/2.
 *
 * gRPC calls without compression take a thin path straight on the stream, unless the client alone streams; everything else
 * goes through Connect's adapter. Unknown methods get UNIMPLEMENTED. Messages are limited to 16 MiB each way.
 */
export async function serveRpc(options: RpcServerOptions): Promise<RpcServer> {
  if (Buffer.byteLength(options.socketPath) > socketPathBytesMax) {
    throw failure(
      ErrorKind.InvalidArgument,
      `unix socket path ${options.socketPath} is longer than ${socketPathBytesMax} bytes`,
    );
  }
  const stopped = new AbortController();
  const thinMethods = collectThinMethods(options.services);
  const streamingMethods = collectStreamingMethods(options.services);
  const harmless = pathsWithoutSideEffects(options.services);
  const changes = new RunningChanges();
  const adapter = http2.createServer(
    connectNodeAdapter({
      routes: (router) => registerServices(router, options),
      fallback: (_request, response) => {
        response.writeHead(200, {
          "content-type": "application/grpc",
          "grpc-status": String(Code.Unimplemented),
          "grpc-message": encodeGrpcMessage("unknown service or method"),
        });
        response.end();
      },
      jsonOptions: { registry: typeRegistry },
      readMaxBytes: messageBytesMax,
      writeMaxBytes: messageBytesMax,
      shutdownSignal: stopped.signal,
    }),
  );
  const server = http2.createServer({ settings: serviceSettings, maxSessionMemory: sessionMemoryMegabytesMax });
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on("session", (session) => {
    session.setLocalWindowSize(connectionWindowBytes);
    sessions.add(session);
    session.once("close", () => sessions.delete(session));
    session.on("error", () => session.destroy());
  });
  server.on("stream", (stream: http2.ServerHttp2Stream, headers, flags, rawHeaders) => {
    const path = headers[":path"] ?? "";
    if (!harmless.has(path)) {
      changes.add(stream);
    }
    const isThin = takesThinPath(headers);
    const thin = isThin ? thinMethods.get(path) : undefined;
    const streaming = isThin ? streamingMethods.get(path) : undefined;
    if (thin !== undefined) {
      serveThinCall(stream, headers, thin, stopped.signal, options.onFailure);
    } else if (streaming !== undefined) {
      serveThinStream(stream, headers, streaming, { stopped: stopped.signal, onFailure: options.onFailure });
    } else {
      adapter.emit("stream", stream, headers, flags, rawHeaders);
    }
  });

  await mkdir(dirname(options.socketPath), { recursive: true });
  await rm(options.socketPath, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(options.socketPath, resolve);
  });
  await chmod(options.socketPath, options.socketMode ?? 0o660);

  return {
    async close(drainMs) {
      const closed = new Promise<void>((resolve) => {
        server.close(() => resolve());
      });
      await changes.drained(drainMs);
      for (const session of sessions) {
        session.destroy();
      }
      stopped.abort(failure(ErrorKind.Unavailable, "the process is stopping"));
      await closed;
    },
  };
}

/** Counts the streams under way whose calls may change something. */
class RunningChanges {
  #count = 0;
  #onNone: (() => void) | undefined;

  add(stream: http2.ServerHttp2Stream): void {
    this.#count++;
    stream.once("close", () => {
      this.#count--;
      if (this.#count === 0) {
        this.#onNone?.();
      }
    });
  }

  async drained(limitMs: number): Promise<void> {
    if (this.#count > 0) {
      await new Promise<void>((resolve) => {
        const deadline = setTimeout(resolve, limitMs);
        this.#onNone = () => {
          clearTimeout(deadline);
          resolve();
        };
      });
    }
  }
}

function pathsWithoutSideEffects(services: readonly ServiceBinding[]): Set<string> {
  return new Set(
    services.flatMap(({ service }) =>
      service.methods
        .filter(({ idempotency }) => idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS)
        .map(({ name }) => `/${service.typeName}/${name}`),
    ),
  );
}

function collectThinMethods(services: readonly ServiceBinding[]): Map<string, ThinMethod> {
  const thinMethods = new Map<string, ThinMethod>();
  for (const { service, handlers } of services) {
    for (const method of service.methods) {
      const handler = handlers[method.localName];
      if (isUnary(method) && typeof handler === "function") {
        thinMethods.set(`/${service.typeName}/${method.name}`, { method, handler: handler as UnaryFunction });
      }
    }
  }
  return thinMethods;
}

function collectStreamingMethods(services: readonly ServiceBinding[]): Map<string, StreamingMethod> {
  const streamingMethods = new Map<string, StreamingMethod>();
  for (const { service, handlers } of services) {
    for (const method of service.methods) {
      const handler = handlers[method.localName];
      if (
        (method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming") &&
        typeof handler === "function"
      ) {
        streamingMethods.set(`/${service.typeName}/${method.name}`, { method, handler } as StreamingMethod);
      }
    }
  }
  return streamingMethods;
}

function isUnary(method: DescMethod): method is DescMethodUnary {
  return method.methodKind === "unary";
}

function registerServices(router: ConnectRouter, options: RpcServerOptions): void {
  for (const { service, handlers } of options.services) {
    for (const method of service.methods) {
      const handler = handlers[method.localName];
      if (typeof handler === "function") {
        const rpc = `/${service.typeName}/${method.name}`;
        const report = (thrown: unknown): ConnectError => reportFailure(rpc, thrown, options.onFailure);
        router.rpc(method as DescMethodUnary, adaptHandler(method, handler as AnyHandler, report) as never);
      }
    }
  }
}

type AnyHandler = (request: unknown, call: Call) => unknown;

function adaptHandler(method: DescMethod, handler: AnyHandler, report: (thrown: unknown) => ConnectError): unknown {
  if (method.methodKind === "unary" || method.methodKind === "client_streaming") {
    return async (request: unknown, context: HandlerContext) => {
      try {
        const response = await handler(request, callOf(context));
        return response instanceof EncodedResponse ? fromBinary(method.output, response.bytes) : response;
      } catch (error) {
        throw report(error);
      }
    };
  }
  return async function* (request: unknown, context: HandlerContext) {
    try {
      yield* handler(request, callOf(context)) as AsyncIterable<unknown>;
    } catch (error) {
      throw report(error);
    }
  };
}

function callOf(context: HandlerContext): Call {
  return { header: (name) => context.requestHeader.get(name) ?? undefined, signal: context.signal };
}

function serveThinCall(
  stream: http2.ServerHttp2Stream,
  headers: http2.IncomingHttpHeaders,
  { method, handler }: ThinMethod,
  stopped: AbortSignal,
  onFailure: RpcServerOptions["onFailure"],
): void {
  const rpc = headers[":path"] ?? "";
  const chunks: Buffer[] = [];
  let announced: number | undefined;
  let answered = false;
  let controller: AbortController | undefined;
  const fail = (thrown: unknown): void => {
    if (!answered && !stream.destroyed) {
      answered = true;
      const error = reportFailure(rpc, thrown, onFailure);
      stream.respond(trailersOnly(error), { endStream: true });
    }
  };
  const cancel = (reason: unknown): void => {
    controller?.abort(reason);
    fail(reason);
  };
  const timeoutMs = parseGrpcTimeout(asText(headers["grpc-timeout"]));
  const deadline =
    timeoutMs === undefined
      ? undefined
      : setTimeout(cancel, timeoutMs, new FlotillaError(ErrorKind.DeadlineExceeded, ErrorKind.DeadlineExceeded));
  const onStop = (): void => cancel(stopped.reason);
  stopped.addEventListener("abort", onStop, { once: true });
  stream.once("close", () => {
    clearTimeout(deadline);
    stopped.removeEventListener("abort", onStop);
    if (!answered) {
      answered = true;
      controller?.abort(new FlotillaError(ErrorKind.Canceled, ErrorKind.Canceled));
    }
  });
  // A stream that the client resets reports an error and then closes; the close does all that is needed.
  stream.on("error", () => undefined);
  stream.on("data", (chunk: Buffer) => {
    // What comes after an early answer is read and dropped, so that the answer is not cut off by a reset.
    if (answered) {
      return;
    }
    chunks.push(chunk);
    announced ??= announcedBytes(concat(chunks));
    if (announced !== undefined && announced > messageBytesMax) {
      chunks.length = 0;
      fail(tooLarge("grpc: received message larger than max", announced));
    }
  });
  stream.once("end", () => {
    if (answered || stream.destroyed) {
      return;
    }
    const call: Call = {
      header: (name) => asText(headers[name]),
      get signal() {
        controller ??= new AbortController();
        return controller.signal;
      },
    };
    runThinCall(method, handler, concat(chunks), call).then((framed) => {
      if (!answered && !stream.destroyed) {
        answered = true;
        stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
        stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
        stream.end(framed);
      }
    }, fail);
  });
}

async function runThinCall(method: DescMethodUnary, handler: UnaryFunction, body: Buffer, call: Call): Promise<Buffer> {
  const unframed = unframeMessage(body);
  if ("fault" in unframed) {
    throw failure(ErrorKind.Internal, `the request of a unary call is ${unframed.fault}`);
  }
  if (unframed.message.byteLength > messageBytesMax) {
    throw tooLarge("grpc: received message larger than max", unframed.message.byteLength);
  }
  const request = decodeRequest(method, unframed.message);
  const response = await handler(request, call);
  const message =
    response instanceof EncodedResponse ? response.bytes : toBinary(method.output, create(method.output, response));
  if (message.byteLength > messageBytesMax) {
    throw tooLarge("grpc: trying to send message larger than max", message.byteLength);
  }
  return frameMessage(message);
}

function concat(chunks: readonly Buffer[]): Buffer {
  return chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks);
}
