/** Global flags of the daemon, as far as they were given. */
export interface DaemonFlags {
  readonly config?: string;
  readonly logLevel?: string;
  readonly address?: string;
  readonly root?: string;
  readonly state?: string;
}

/** Placeholder signature. */
export function parseDaemonFlags(_argv: readonly string[]): DaemonFlags {
  throw new Error("in work");
}
