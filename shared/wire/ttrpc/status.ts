import { ErrorKind, FlotillaError } from "#base/errors.ts";
import type { Status } from "#gen/google/rpc/status_pb.ts";
import { kindOf } from "../errors.ts";

/** The header that says which namespace a call is made in. @source containerd v2.3.4 pkg/namespaces/ttrpc.go `TTRPCHeader` */
export const ttrpcNamespaceHeader = "containerd-namespace-ttrpc";

/** What a call fails with when its connection ends. @source containerd/ttrpc errors.go `ErrClosed` */
const closedText = "ttrpc: closed";

/** The error of a call whose connection is closed: class `unavailable`, since nobody knows what became of the call. */
export function connectionClosed(options?: ErrorOptions): FlotillaError {
  return new FlotillaError(ErrorKind.Unavailable, closedText, options);
}

/** Tells whether a call failed because its connection ended. */
export function isConnectionClosed(error: unknown): error is FlotillaError {
  return error instanceof FlotillaError && error.kind === ErrorKind.Unavailable && error.message === closedText;
}

/** Turns the status of a response that is not OK into the error that the other side meant, text unchanged. */
export function fromStatus(status: Status): FlotillaError {
  return new FlotillaError(kindOf(status.code, status.message), status.message);
}
