import { chmod, mkdir, rm } from "node:fs/promises";
import http2 from "node:http2";
import { dirname } from "node:path";
import type { DescMethod } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { ConnectError } from "@connectrpc/connect";
import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { socketPathBytesMax } from "#base/limits.ts";
import { toConnectError } from "./errors.ts";
import { type FailedCall, takesThinPath, trailersOnly } from "./grpc/thin-answer.ts";
import { type StreamingMethod, serveThinStream } from "./grpc/thin-stream.ts";
import { serveThinCall, type UnaryMethod } from "./grpc/thin-unary.ts";
import type { ServiceBinding } from "./handler.ts";
import { RunningChanges } from "./running-changes.ts";
import {
  connectionWindowBytes,
  serviceSettings,
  sessionMemoryMegabytesMax,
  streamResetLimits,
} from "./transport-settings.ts";

export type { FailedCall } from "./grpc/thin-answer.ts";

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
  const thinMethods = collectMethods<UnaryMethod>(options.services, ["unary"]);
  const streamingMethods = collectMethods<StreamingMethod>(options.services, ["server_streaming", "bidi_streaming"]);
  const harmless = pathsWithoutSideEffects(options.services);
  const answered = collectMethods(options.services, [
    "unary",
    "server_streaming",
    "client_streaming",
    "bidi_streaming",
  ]);
  const changes = new RunningChanges();
  const handling = { stopped: stopped.signal, onFailure: options.onFailure };
  let adapter: Promise<http2.Http2Server> | undefined;
  const openAdapter = async (): Promise<http2.Http2Server> => {
    const { createConnectAdapter } = await import("./connect/connect-adapter.ts");
    return createConnectAdapter({ services: options.services, ...handling });
  };
  const server = http2.createServer({
    settings: serviceSettings,
    maxSessionMemory: sessionMemoryMegabytesMax,
    ...streamResetLimits,
  });
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
      serveThinCall(stream, headers, thin, handling);
    } else if (streaming !== undefined) {
      serveThinStream(stream, headers, streaming, handling);
    } else if (isThin && !answered.has(path)) {
      stream.respond(trailersOnly(unansweredMethod(path)), { endStream: true });
    } else {
      adapter ??= openAdapter();
      adapter.then(
        (opened) => opened.emit("stream", stream, headers, flags, rawHeaders),
        () => stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR),
      );
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

function pathsWithoutSideEffects(services: readonly ServiceBinding[]): Set<string> {
  return new Set(
    services.flatMap(({ service }) =>
      service.methods
        .filter(({ idempotency }) => idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS)
        .map(({ name }) => `/${service.typeName}/${name}`),
    ),
  );
}

/** In the words of grpc-go, whose clients look at the code alone. */
function unansweredMethod(path: string): ConnectError {
  const [, service, method] = path.split("/");
  return toConnectError(
    new FlotillaError(ErrorKind.NotImplemented, `unknown method ${method ?? ""} for service ${service ?? ""}`),
  );
}

/** Collects the methods of the given kinds that have a handler, by path. */
function collectMethods<T>(
  services: readonly ServiceBinding[],
  kinds: readonly DescMethod["methodKind"][],
): Map<string, T> {
  const methods = new Map<string, T>();
  for (const { service, handlers } of services) {
    for (const method of service.methods) {
      const handler = handlers[method.localName];
      if (kinds.includes(method.methodKind) && typeof handler === "function") {
        methods.set(`/${service.typeName}/${method.name}`, { method, handler } as T);
      }
    }
  }
  return methods;
}
