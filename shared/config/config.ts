/** The effective configuration: file, imports and flags merged, older versions migrated. Paths are absolute. */
export interface FleetConfig {
  /** Directory of what survives a reboot. */
  readonly root: string;
  /** Directory of what does not. */
  readonly state: string;
  /** Directory for temporary files, "" for the system's own. */
  readonly temp: string;
  readonly grpc: ListenerConfig;
  readonly ttrpc: ListenerConfig;
  readonly log: LogConfig;
  readonly metrics: MetricsConfig;
  /** Plugins, by `type.id`, that are not loaded. */
  readonly disabledPlugins: readonly string[];
  /** Plugins, by `type.id`, without which the daemon does not start. */
  readonly requiredPlugins: readonly string[];
  /** Wanted oom_score_adj of the daemon, 0 to leave it. */
  readonly oomScore: number;
  /** Cgroup that the daemon moves into, "" for none. */
  readonly cgroupPath: string;
  /** Durations by their key, in milliseconds. Holds all keys that containerd knows; see `timeoutMs` for the others. */
  readonly timeoutsMs: ReadonlyMap<string, number>;
  readonly streamProcessors: ReadonlyMap<string, StreamProcessorConfig>;
  /** Plugins that run outside the fleet, by name. */
  readonly proxyPlugins: ReadonlyMap<string, ProxyPluginConfig>;
  /** Tables of `[plugins."type.id"]`, by `type.id`, merged over the defaults. Read them by `pluginTable`. */
  readonly plugins: ReadonlyMap<string, PluginTable>;
  /** The files that were read, in the order in which they were merged, with what each says of plugins. */
  readonly sources: readonly ConfigSource[];
}

export type PluginTable = Readonly<Record<string, unknown>>;

export interface ListenerConfig {
  /** Path of the Unix socket. */
  readonly address: string;
  readonly uid: number;
  readonly gid: number;
}

export interface LogConfig {
  readonly level: LogLevel;
  readonly format: "text" | "json";
  /** Whether entries tell which trace they belong to. */
  readonly hasTraceId: boolean;
}

export interface MetricsConfig {
  /** Address of TCP, "" when nobody wants figures. */
  readonly address: string;
  /** Whether the durations of calls are counted. */
  readonly hasHistogram: boolean;
}

/** @source containerd/log v0.1 context.go `SetLevel` */
export const logLevels = ["trace", "debug", "info", "warn", "error", "fatal", "panic"] as const;
export type LogLevel = (typeof logLevels)[number];

/**
 * A program that turns one media type into another while a layer is unpacked.
 *
 * @source containerd v2.3.4 docs/stream_processors.md
 */
export interface StreamProcessorConfig {
  readonly accepts: readonly string[];
  readonly returns: string;
  /** Path or name of the program. */
  readonly path: string;
  readonly args: readonly string[];
  /** `NAME=value`, added to the daemon's environment. */
  readonly env: readonly string[];
}

/** A plugin behind a gRPC socket of somebody else. @source containerd v2.3.4 docs/PLUGINS.md */
export interface ProxyPluginConfig {
  /** `snapshot`, `content`, `sandbox`, `diff`, or a full type such as `io.containerd.snapshotter.v1`. */
  readonly type: string;
  readonly address: string;
  /** Such as `linux/amd64`, "" for the platform of this machine. */
  readonly platform: string;
  readonly exports: Readonly<Record<string, string>>;
  readonly capabilities: readonly string[];
}

export interface ConfigSource {
  readonly file: string;
  readonly plugins: Readonly<Record<string, PluginTable>>;
}

/** Where a plugin keeps what survives a reboot, such as `<root>/io.containerd.content.v1.content`. */
export function pluginRoot(config: Pick<FleetConfig, "root">, plugin: string): string {
  return `${config.root}/${plugin}`;
}

/** Where a plugin keeps what does not, such as `<state>/io.containerd.runtime.v2.task`. */
export function pluginState(config: FleetConfig, plugin: string): string {
  return `${config.state}/${plugin}`;
}

/** How long the daemon waits for something whose timeout nobody has set. */
const unknownTimeoutMs = 1_000;

/**
 * How long to wait by `[timeouts]`.
 *
 * @returns Milliseconds; 0 means without end.
 * @source containerd v2.3.4 pkg/timeout/timeout.go `Get`
 */
export function timeoutMs(config: FleetConfig, key: string): number {
  return config.timeoutsMs.get(key) ?? unknownTimeoutMs;
}
