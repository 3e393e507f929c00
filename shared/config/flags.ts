import { resolve } from "node:path";
import { quote } from "#base/quote.ts";
import { parseArguments, type ValueFlag } from "./flag-syntax.ts";

/** Global flags of the daemon, as far as they were given. An empty value counts as not given, as in containerd. */
export interface DaemonFlags {
  /** Path of the configuration file. A file that is named must exist, the default one need not. */
  readonly config?: string;
  readonly logLevel?: string;
  /** Path of the gRPC socket. */
  readonly address?: string;
  readonly root?: string;
  readonly state?: string;
}

/** Where the configuration file is when no flag says so. @source containerd v2.3.4 defaults/defaults_unix.go `DefaultConfigDir` */
export const defaultConfigPath = "/etc/containerd/config.toml";

/**
 * The flags that every process of the fleet takes, in the order of the help.
 *
 * @source containerd v2.3.4 cmd/containerd/command/main.go `App`
 */
export const daemonFlags = [
  { names: ["config", "c"] },
  { names: ["log-level", "l"] },
  { names: ["address", "a"] },
  { names: ["root"] },
  { names: ["state"] },
] as const satisfies readonly ValueFlag[];

/**
 * Reads the command line of a process of the fleet, which holds nothing but {@link daemonFlags}.
 *
 * @param argv - Without the program.
 * @throws Error that names the flag or the argument that does not belong there.
 */
export function parseDaemonFlags(argv: readonly string[]): DaemonFlags {
  const parsed = parseArguments(argv, daemonFlags);
  const [unexpected] = parsed.rest;
  if (unexpected !== undefined) {
    throw new Error(`unexpected argument ${quote(unexpected)}`);
  }
  return selectDaemonFlags(parsed.values);
}

/** Picks the daemon's flags out of those of a command line that may hold more. */
export function selectDaemonFlags(values: ReadonlyMap<string, string>): DaemonFlags {
  const config = values.get("config");
  return {
    ...(config === undefined ? {} : { config }),
    ...given("logLevel", values.get("log-level")),
    ...given("address", values.get("address")),
    ...given("root", values.get("root")),
    ...given("state", values.get("state")),
  };
}

function given<K extends string>(key: K, value: string | undefined): { [P in K]?: string } {
  const chosen: { [P in K]?: string } = {};
  if (value !== undefined && value !== "") {
    chosen[key] = value;
  }
  return chosen;
}

/**
 * Writes flags as a command line that {@link parseDaemonFlags} reads back. Paths come out absolute, so that a child with another
 * working directory means the same files.
 */
export function formatDaemonFlags(flags: DaemonFlags): string[] {
  const { config, logLevel, address, root, state } = flags;
  return [
    ...(config === undefined ? [] : ["--config", resolve(config)]),
    ...(logLevel === undefined ? [] : ["--log-level", logLevel]),
    ...(address === undefined ? [] : ["--address", address]),
    ...(root === undefined ? [] : ["--root", resolve(root)]),
    ...(state === undefined ? [] : ["--state", resolve(state)]),
  ];
}
