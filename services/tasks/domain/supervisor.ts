import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { ErrorKind, FlotillaError } from "#base/errors.ts";

/** How the first process of a container ended. */
export interface TaskExit {
  readonly pid: number;
  readonly exitStatus: number;
  /** Unset when the runtime does not know. */
  readonly exitedAt: Timestamp | undefined;
}

/** What a call fails with when the supervisor is gone. The text is what clients of containerd get then. */
export class SupervisorGone extends FlotillaError {
  constructor(options?: ErrorOptions) {
    super(ErrorKind.Unknown, "ttrpc: closed", options);
    this.name = "SupervisorGone";
  }
}

/** Bounds of one call to a supervisor. */
export interface SupervisorCallOptions {
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number | undefined;
}
