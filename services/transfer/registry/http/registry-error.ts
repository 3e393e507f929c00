import { ErrorKind, FlotillaError } from "#base/errors.ts";

/** What a failure means for those who might try again. */
export interface FailureTraits {
  /** It may go away by itself: a cut connection, a busy server. */
  readonly isTransient?: boolean;
  /** Status of the answer that it came from. */
  readonly status?: number;
  /** We are not let in, as opposed to nobody: by a status, or because credentials are missing or wrong. */
  readonly refusal?: "status" | "credentials";
  /** How long the registry asks us to wait. */
  readonly retryAfterMs?: number;
  readonly cause?: unknown;
}

/** A failure of a registry, or of the way to it. */
export class RegistryError extends FlotillaError {
  readonly isTransient: boolean;
  readonly refusal: FailureTraits["refusal"];
  readonly status: number | undefined;
  readonly retryAfterMs: number | undefined;

  constructor(kind: ErrorKind, message: string, traits: FailureTraits = {}) {
    super(kind, message, { cause: traits.cause });
    this.name = "RegistryError";
    this.isTransient = traits.isTransient ?? false;
    this.refusal = traits.refusal;
    this.status = traits.status;
    this.retryAfterMs = traits.retryAfterMs;
  }
}

/** Tells whether a failure may go away by itself. */
export function isTransient(error: unknown): boolean {
  return error instanceof RegistryError && error.isTransient;
}

/** Makes a copy of a failure with a context before its message; what it means for trying again stays. */
export function wrapRegistryError(error: unknown, context: string): Error {
  if (!(error instanceof RegistryError)) {
    return error instanceof FlotillaError
      ? new FlotillaError(error.kind, `${context}: ${error.message}`, { cause: error })
      : new FlotillaError(ErrorKind.Unknown, `${context}: ${String(error)}`, { cause: error });
  }
  const { kind, message, isTransient, refusal, status, retryAfterMs } = error;
  return new RegistryError(kind, `${context}: ${message}`, {
    isTransient,
    cause: error,
    ...(refusal === undefined ? {} : { refusal }),
    ...(status === undefined ? {} : { status }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

/**
 * The one error for several hosts that have all failed: each with its name and its own words.
 *
 * The class and the meaning are those of the most telling: an answer tells more than none, and one that is neither `not found`
 * nor a refusal more than these. Among equals the first counts.
 *
 * @param failures - In the order in which the hosts were asked; at least one.
 * @source containerd v2.3.4 core/remotes/docker/resolver.go `firstErrPriority`
 */
export function joinHostErrors(failures: readonly (readonly [host: string, error: unknown])[]): unknown {
  const ranks = failures.map(([, error]) => rankOf(error));
  const primary = failures[ranks.indexOf(Math.max(...ranks))];
  const others = failures.filter((failure) => failure !== primary);
  if (others.length === 0) {
    return primary?.[1];
  }
  const tried = others.map(([host, error]) => `${host}: ${error instanceof Error ? error.message : String(error)}`);
  return wrapRegistryError(primary?.[1], `tried ${tried.join("; ")}; ${primary?.[0]}`);
}

function rankOf(error: unknown): number {
  if (!(error instanceof RegistryError) || error.status === undefined) {
    return 0;
  }
  return error.status === 404 ? 1 : 2;
}
