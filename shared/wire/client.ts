import http2 from "node:http2";
import net from "node:net";
import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { Transport, UnaryResponse } from "@connectrpc/connect";
import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { messageBytesMax, timerMsMax } from "#base/limits.ts";
import { fromConnectError, kindOf } from "./errors.ts";
import { decodeGrpcMessage, frameMessage, unframeMessage } from "./grpc/grpc-wire.ts";
import { abortReason, SessionHolder } from "./session-holder.ts";
import { serviceSettings } from "./transport-settings.ts";

/** A connection to one process of the fleet, for `createClient` of @connectrpc/connect. */
export interface RpcConnection {
  /**
   * Makes the calls. A call waits up to 10 s while the process is not there, since it is being restarted then.
   * A call that was under way when the process died is sent again if its method has no side effects, and fails
   * with `unavailable` otherwise. Failures are {@link FlotillaError}.
   */
  readonly transport: Transport;
  /** Ends the connection and what is under way on it. */
  close(): void;
}

/** How often one call is sent again because the process died under it. */
const lossesMax = 3;

/** Opens a connection to the socket of a process, when first used. */
export function connectRpc(socketPath: string): RpcConnection {
  const sessions = new SessionHolder({ name: socketPath, connect: () => net.connect(socketPath) });
  let streaming: Promise<Transport> | undefined;
  return {
    transport: {
      unary: async (method, signal, timeoutMs, header, input) =>
        callUnary(sessions, method, { signal, timeoutMs, header, input }),
      stream: async (method, signal, timeoutMs, header, input, contextValues) => {
        await sessions.get(signal);
        try {
          streaming ??= openStreaming(socketPath);
          const response = await (await streaming).stream(method, signal, timeoutMs, header, input, contextValues);
          return { ...response, message: mapErrors(response.message) };
        } catch (error) {
          throw fromConnectError(error);
        }
      },
    },
    close: () => sessions.close(),
  };
}

/** Connect's own transport, for streams. Loaded when first needed, since most processes make unary calls alone. */
async function openStreaming(socketPath: string): Promise<Transport> {
  const { createGrpcTransport } = await import("@connectrpc/connect-node");
  return createGrpcTransport({
    baseUrl: "http://localhost",
    nodeOptions: { createConnection: () => net.connect(socketPath), settings: serviceSettings },
    readMaxBytes: messageBytesMax,
    writeMaxBytes: messageBytesMax,
  });
}

interface UnaryCall<I extends DescMessage> {
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number | undefined;
  readonly header: ConstructorParameters<typeof Headers>[0];
  readonly input: MessageInitShape<I>;
}

async function callUnary<I extends DescMessage, O extends DescMessage>(
  sessions: SessionHolder,
  method: DescMethodUnary<I, O>,
  call: UnaryCall<I>,
): Promise<UnaryResponse<I, O>> {
  const framed = frameMessage(toBinary(method.input, create(method.input, call.input)));
  const repeatable = method.idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
  let losses = 0;
  for (;;) {
    const session = await sessions.get(call.signal);
    const outcome = await exchange(session, method, call, framed);
    if (outcome.kind === "answered") {
      return {
        stream: false,
        service: method.parent,
        method,
        header: new Headers(),
        trailer: new Headers(),
        message: decodeResponse(method, outcome.body),
      };
    }
    if (outcome.kind === "failed" || !repeatable || losses === lossesMax) {
      throw outcome.error;
    }
    losses++;
  }
}

type Outcome =
  | { readonly kind: "answered"; readonly body: Buffer }
  /** The service answered with an error, or the caller gave up. */
  | { readonly kind: "failed"; readonly error: Error }
  /** The connection broke before the answer was complete. */
  | { readonly kind: "lost"; readonly error: Error };

function exchange(
  session: http2.ClientHttp2Session,
  method: DescMethodUnary,
  call: UnaryCall<DescMessage>,
  framed: Buffer,
): Promise<Outcome> {
  return new Promise((resolve) => {
    const rpc = `/${method.parent.typeName}/${method.name}`;
    const headers: http2.OutgoingHttpHeaders = {
      ":method": "POST",
      ":path": rpc,
      "content-type": "application/grpc",
      te: "trailers",
      ...Object.fromEntries(new Headers(call.header)),
    };
    if (call.timeoutMs !== undefined) {
      headers["grpc-timeout"] = `${Math.max(1, Math.round(call.timeoutMs))}m`;
    }
    const stream = session.request(headers);
    const chunks: Buffer[] = [];
    let status: http2.IncomingHttpHeaders = {};
    const onAbort = (): void => {
      resolve({ kind: "failed", error: abortReason(call.signal) });
      stream.close(http2.constants.NGHTTP2_CANCEL);
    };
    const deadline =
      call.timeoutMs === undefined
        ? undefined
        : setTimeout(
            () => {
              resolve({
                kind: "failed",
                error: new FlotillaError(ErrorKind.DeadlineExceeded, ErrorKind.DeadlineExceeded),
              });
              stream.close(http2.constants.NGHTTP2_CANCEL);
            },
            Math.min(call.timeoutMs, timerMsMax),
          );
    call.signal?.addEventListener("abort", onAbort, { once: true });
    if (call.signal?.aborted === true) {
      onAbort();
    }
    stream.on("response", (received) => {
      status = received;
      // An answer by trailers alone is final; what the service does not want to read need not be sent.
      if (received["grpc-status"] !== undefined) {
        stream.close(http2.constants.NGHTTP2_NO_ERROR);
      }
    });
    stream.on("trailers", (received) => {
      status = received;
    });
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("error", () => undefined);
    stream.once("close", () => {
      clearTimeout(deadline);
      call.signal?.removeEventListener("abort", onAbort);
      resolve(readOutcome(rpc, { status, chunks, connectionLost: session.closed || session.destroyed }));
    });
    stream.end(framed);
  });
}

interface Received {
  readonly status: http2.IncomingHttpHeaders;
  readonly chunks: readonly Buffer[];
  readonly connectionLost: boolean;
}

function readOutcome(rpc: string, { status, chunks, connectionLost }: Received): Outcome {
  const code = status["grpc-status"];
  if (code === undefined) {
    return connectionLost
      ? { kind: "lost", error: failure(ErrorKind.Unavailable, `connection lost during ${rpc}`) }
      : { kind: "failed", error: failure(ErrorKind.Internal, `${rpc} ended without a status`) };
  }
  if (code !== "0") {
    const message = decodeGrpcMessage(String(status["grpc-message"] ?? ""));
    return { kind: "failed", error: new FlotillaError(kindOf(Number(code), message), message) };
  }
  return { kind: "answered", body: Buffer.concat(chunks) };
}

function decodeResponse<O extends DescMessage>(method: DescMethodUnary<DescMessage, O>, body: Buffer): MessageShape<O> {
  const unframed = unframeMessage(body);
  if ("fault" in unframed) {
    throw failure(ErrorKind.Internal, `the response of ${method.name} is ${unframed.fault}`);
  }
  return fromBinary(method.output, unframed.message);
}

async function* mapErrors<T>(messages: AsyncIterable<T>): AsyncIterable<T> {
  try {
    yield* messages;
  } catch (error) {
    throw fromConnectError(error);
  }
}
