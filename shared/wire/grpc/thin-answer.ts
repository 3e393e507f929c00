import type http2 from "node:http2";
import { type DescMessage, type DescMethod, fromBinary, type MessageShape } from "@bufbuild/protobuf";
import type { ConnectError } from "@connectrpc/connect";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { messageBytesMax, timerMsMax } from "#base/limits.ts";
import { toConnectError } from "../errors.ts";
import { encodeGrpcMessage, parseGrpcTimeout } from "./grpc-wire.ts";

/** A call that ended in an error, for the log. */
export interface FailedCall {
  /** Path of the method, `/package.Service/Method`. */
  readonly rpc: string;
  readonly error: ConnectError;
}

/** Tells the log of a failed call, and gives what the client is told. */
export function reportFailure(rpc: string, thrown: unknown, onFailure: (failed: FailedCall) => void): ConnectError {
  const error = toConnectError(thrown);
  onFailure({ rpc, error });
  return error;
}

/** Tells whether a request can be answered without Connect's adapter: plain gRPC, nothing compressed. */
export function takesThinPath(headers: http2.IncomingHttpHeaders): boolean {
  const type = headers["content-type"];
  const encoding = headers["grpc-encoding"];
  return (
    headers[":method"] === "POST" &&
    (type === "application/grpc" || type === "application/grpc+proto") &&
    (encoding === undefined || encoding === "identity")
  );
}

/** Decodes a request message. @throws {@link FlotillaError} `internal`, as grpc-go answers. */
export function decodeRequest(method: DescMethod, message: Uint8Array): MessageShape<DescMessage> {
  try {
    return fromBinary(method.input, message);
  } catch (error) {
    throw new FlotillaError(ErrorKind.Internal, `grpc: error unmarshalling request: ${String(error)}`, {
      cause: error,
    });
  }
}

/** The error for a message beyond 16 MiB, in grpc-go's words. */
export function tooLarge(context: string, bytes: number): FlotillaError {
  return new FlotillaError(ErrorKind.ResourceExhausted, `${context} (${bytes} vs. ${messageBytesMax})`);
}

/** The trailers of a call that failed. */
export function failureTrailers(error: ConnectError): http2.OutgoingHttpHeaders {
  return { "grpc-status": String(error.code), "grpc-message": encodeGrpcMessage(error.rawMessage) };
}

/** The whole answer to a call that failed before it answered anything. */
export function trailersOnly(error: ConnectError): http2.OutgoingHttpHeaders {
  return { ":status": 200, "content-type": "application/grpc", ...failureTrailers(error) };
}

/** The first value of a header. */
export function asText(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}

/** Why the calls of a client that went away are over. */
export function canceled(): FlotillaError {
  return new FlotillaError(ErrorKind.Canceled, ErrorKind.Canceled);
}

/** Cancels a call when its deadline passes or the process stops, until its stream closes. */
export function cancelInTime(
  stream: http2.ServerHttp2Stream,
  headers: http2.IncomingHttpHeaders,
  stopped: AbortSignal,
  cancel: (reason: unknown) => void,
): void {
  const timeoutMs = parseGrpcTimeout(asText(headers["grpc-timeout"]));
  const passed = new FlotillaError(ErrorKind.DeadlineExceeded, ErrorKind.DeadlineExceeded);
  const deadline = timeoutMs === undefined ? undefined : setTimeout(cancel, Math.min(timeoutMs, timerMsMax), passed);
  const onStop = (): void => cancel(stopped.reason);
  stopped.addEventListener("abort", onStop, { once: true });
  stream.once("close", () => {
    clearTimeout(deadline);
    stopped.removeEventListener("abort", onStop);
  });
}
