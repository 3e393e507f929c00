import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorKind, errorMessage, FlotillaError } from "#base/errors.ts";

/**
 * The one table from classes of errors to codes on the wire. Three classes share FAILED_PRECONDITION;
 * clients tell them apart by the end of the message.
 *
 * @source containerd/errdefs v1.0 pkg/errgrpc/grpc.go `ToGRPC`
 */
const codeOfKind = {
  [ErrorKind.Canceled]: Code.Canceled,
  [ErrorKind.Unknown]: Code.Unknown,
  [ErrorKind.InvalidArgument]: Code.InvalidArgument,
  [ErrorKind.DeadlineExceeded]: Code.DeadlineExceeded,
  [ErrorKind.NotFound]: Code.NotFound,
  [ErrorKind.AlreadyExists]: Code.AlreadyExists,
  [ErrorKind.PermissionDenied]: Code.PermissionDenied,
  [ErrorKind.ResourceExhausted]: Code.ResourceExhausted,
  [ErrorKind.FailedPrecondition]: Code.FailedPrecondition,
  [ErrorKind.Conflict]: Code.FailedPrecondition,
  [ErrorKind.NotModified]: Code.FailedPrecondition,
  [ErrorKind.Aborted]: Code.Aborted,
  [ErrorKind.OutOfRange]: Code.OutOfRange,
  [ErrorKind.NotImplemented]: Code.Unimplemented,
  [ErrorKind.Internal]: Code.Internal,
  [ErrorKind.Unavailable]: Code.Unavailable,
  [ErrorKind.DataLoss]: Code.DataLoss,
  [ErrorKind.Unauthenticated]: Code.Unauthenticated,
} satisfies Record<ErrorKind, Code>;

/** The number of success, for which Connect has no name. */
export const codeOfSuccess: Code = 0 as Code;

const kindOfCode: Record<Code, ErrorKind> = {
  [Code.Canceled]: ErrorKind.Canceled,
  [Code.Unknown]: ErrorKind.Unknown,
  [Code.InvalidArgument]: ErrorKind.InvalidArgument,
  [Code.DeadlineExceeded]: ErrorKind.DeadlineExceeded,
  [Code.NotFound]: ErrorKind.NotFound,
  [Code.AlreadyExists]: ErrorKind.AlreadyExists,
  [Code.PermissionDenied]: ErrorKind.PermissionDenied,
  [Code.ResourceExhausted]: ErrorKind.ResourceExhausted,
  [Code.FailedPrecondition]: ErrorKind.FailedPrecondition,
  [Code.Aborted]: ErrorKind.Aborted,
  [Code.OutOfRange]: ErrorKind.OutOfRange,
  [Code.Unimplemented]: ErrorKind.NotImplemented,
  [Code.Internal]: ErrorKind.Internal,
  [Code.Unavailable]: ErrorKind.Unavailable,
  [Code.DataLoss]: ErrorKind.DataLoss,
  [Code.Unauthenticated]: ErrorKind.Unauthenticated,
};

/** The number that stands for a class of errors in `grpc-status` and in ttrpc's `google.rpc.Status`. */
export function codeOf(kind: ErrorKind): Code {
  return codeOfKind[kind];
}

/**
 * The class that a code and a message stand for: the way back from {@link codeOf}, with `conflict` and
 * `not modified` recognised by the end of the message.
 */
export function kindOf(code: number, message: string): ErrorKind {
  if (code === Code.FailedPrecondition) {
    for (const kind of [ErrorKind.Conflict, ErrorKind.NotModified]) {
      if (message === kind || message.endsWith(`: ${kind}`)) {
        return kind;
      }
    }
  }
  return kindOfCode[code as Code] ?? ErrorKind.Unknown;
}

/** How a call failed. */
export interface CallFailure {
  readonly code: Code;
  /** What the client is told. */
  readonly message: string;
  /** What was thrown, or what that had as its cause; never sent. */
  readonly cause: unknown;
}

/**
 * Turns whatever was thrown into what goes on the wire. A {@link FlotillaError} keeps class and text, a ConnectError its code and text,
 * everything else is a bug or an unmapped failure: UNKNOWN with its text.
 *
 * No ConnectError is made: it has `Headers`, whose first use loads the whole of fetch, 50 ms and 9 MiB.
 */
export function failureOf(thrown: unknown): CallFailure {
  if (thrown instanceof FlotillaError) {
    return { code: codeOf(thrown.kind), message: thrown.message, cause: thrown };
  }
  if (thrown instanceof ConnectError) {
    return { code: thrown.code, message: thrown.rawMessage, cause: thrown.cause ?? thrown };
  }
  return { code: Code.Unknown, message: errorMessage(thrown), cause: thrown };
}

/** As {@link failureOf}, for the handlers of Connect. */
export function toConnectError(thrown: unknown): ConnectError {
  if (thrown instanceof ConnectError) {
    return thrown;
  }
  const { code, message, cause } = failureOf(thrown);
  return new ConnectError(message, code, undefined, undefined, cause);
}

/** Turns what a client call threw back into the class that the other side meant. What was aborted counts as canceled, as in Connect. */
export function fromConnectError(thrown: unknown): FlotillaError {
  if (thrown instanceof FlotillaError) {
    return thrown;
  }
  const { code, message } = failureOf(thrown);
  const kind = isAbort(thrown) ? ErrorKind.Canceled : kindOf(code, message);
  return new FlotillaError(kind, message, { cause: thrown });
}

function isAbort(thrown: unknown): boolean {
  return thrown instanceof Error && (thrown.name === "AbortError" || thrown.name === "TimeoutError");
}
