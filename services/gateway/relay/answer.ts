import { Code } from "@connectrpc/connect";
import { encodeGrpcMessage } from "#wire/grpc/grpc-wire.ts";
import { encodeHeaderBlock } from "#wire/http2/header-encoder.ts";

/** Why the relay itself answers a call, in the words of the protocols that it may have to use. */
export const Refusal = {
  /** No process answers the method. */
  Unimplemented: { grpcStatus: "12", connectCode: "unimplemented", httpStatus: 404 },
  /** The client may not call it. */
  PermissionDenied: { grpcStatus: "7", connectCode: "permission_denied", httpStatus: 403 },
  /** The process that answers it is not there, or went away. */
  Unavailable: { grpcStatus: "14", connectCode: "unavailable", httpStatus: 503 },
} as const;

export type Refusal = (typeof Refusal)[keyof typeof Refusal];

/** A whole response. Without a body the header block ends it. */
export interface Answer {
  readonly headerBlock: Buffer;
  readonly body: Buffer | undefined;
}

/** Tells whether a call ends with trailers: gRPC does, the Connect protocol and gRPC-web end in the body. */
export function endsWithTrailers(contentType: string): boolean {
  return contentType.startsWith("application/grpc") && !contentType.startsWith("application/grpc-web");
}

/**
 * Encodes the response that refuses a call, in the protocol that its content type tells.
 *
 * @source grpc/grpc doc/PROTOCOL-HTTP2.md "Trailers-Only"; Connect protocol reference "Error Codes"
 */
export function encodeAnswer(contentType: string, refusal: Refusal, message: string): Answer {
  if (contentType.startsWith("application/grpc")) {
    const headerBlock = encodeHeaderBlock([
      [":status", "200"],
      ["content-type", endsWithTrailers(contentType) ? "application/grpc" : contentType],
      ["grpc-status", refusal.grpcStatus],
      ["grpc-message", encodeGrpcMessage(message)],
    ]);
    return { headerBlock, body: undefined };
  }
  const body = encodeConnectError(refusal, message);
  const headerBlock = encodeHeaderBlock([
    [":status", String(refusal.httpStatus)],
    ["content-type", "application/json"],
    ["content-length", String(body.length)],
  ]);
  return { headerBlock, body };
}

/** Encodes the trailers that end a response whose headers have gone out. */
export function encodeTrailers(refusal: Refusal, message: string): Buffer {
  return encodeHeaderBlock([
    ["grpc-status", refusal.grpcStatus],
    ["grpc-message", encodeGrpcMessage(message)],
  ]);
}

/** The body of a refused call of the Connect protocol. @source Connect protocol reference "Error End-Stream" */
export function encodeConnectError(refusal: Refusal, message: string): Buffer {
  return Buffer.from(JSON.stringify({ code: refusal.connectCode, message }));
}

/** What a status of HTTP tells of the end of a call of the Connect protocol; several codes share one. @source Connect protocol reference "Error Codes" */
const codesByStatus: Readonly<Record<number, Code>> = {
  400: Code.InvalidArgument,
  401: Code.Unauthenticated,
  403: Code.PermissionDenied,
  404: Code.NotFound,
  409: Code.AlreadyExists,
  429: Code.ResourceExhausted,
  499: Code.Canceled,
  501: Code.Unimplemented,
  503: Code.Unavailable,
  504: Code.DeadlineExceeded,
};

/** The code that a status of HTTP stands for where no other is seen: 0 for success. */
export function codeOfStatus(status: number): Code {
  return status === 200 ? (0 as Code) : (codesByStatus[status] ?? Code.Unknown);
}
