/**
 * The classes of errors that containerd's API knows, by the canonical text that ends their messages.
 * Clients tell some of them apart by this text alone.
 *
 * @source containerd/errdefs v1.0 errors.go
 */
export const ErrorKind = {
  Canceled: "context canceled",
  Unknown: "unknown",
  InvalidArgument: "invalid argument",
  DeadlineExceeded: "context deadline exceeded",
  NotFound: "not found",
  AlreadyExists: "already exists",
  PermissionDenied: "permission denied",
  ResourceExhausted: "resource exhausted",
  FailedPrecondition: "failed precondition",
  Conflict: "conflict",
  NotModified: "not modified",
  Aborted: "aborted",
  OutOfRange: "out of range",
  NotImplemented: "not implemented",
  Internal: "internal",
  Unavailable: "unavailable",
  DataLoss: "data loss",
  Unauthenticated: "unauthenticated",
} as const;

export type ErrorKind = (typeof ErrorKind)[keyof typeof ErrorKind];

/**
 * An error whose class and text reach the client.
 *
 * The message is the whole text as containerd sends it, canonical suffix included where containerd has
 * one (`namespace is required: failed precondition`). Use {@link failure} to have the suffix added.
 * `cause` is logged and never sent.
 */
export class FlotillaError extends Error {
  readonly kind: ErrorKind;

  constructor(kind: ErrorKind, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "FlotillaError";
    this.kind = kind;
  }
}

/**
 * Makes an error whose message ends in the canonical text of its class, exactly once.
 *
 * @param context - What went wrong with which object; may already end in the canonical text.
 */
export function failure(kind: ErrorKind, context: string, options?: ErrorOptions): FlotillaError {
  const message = context === kind || context.endsWith(`: ${kind}`) ? context : `${context}: ${kind}`;
  return new FlotillaError(kind, message, options);
}

/**
 * Tells whether a value is a {@link FlotillaError} of one of the given classes, or of any class when none is given.
 */
export function isFailure(error: unknown, ...kinds: ErrorKind[]): error is FlotillaError {
  return error instanceof FlotillaError && (kinds.length === 0 || kinds.includes(error.kind));
}

/**
 * Makes a copy of an error with a context before its message, as Go's `fmt.Errorf("context: %w")` does: the class stays.
 * What is not a {@link FlotillaError} becomes one of class `unknown`.
 */
export function wrapFailure(error: unknown, context: string): FlotillaError {
  const kind = error instanceof FlotillaError ? error.kind : ErrorKind.Unknown;
  return new FlotillaError(kind, `${context}: ${errorMessage(error)}`, { cause: error });
}

/** The text of anything that was thrown. */
export function errorMessage(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The `code` of a Node.js system error (`ENOENT`), if the value is one. */
export function systemErrorCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}
