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
  /** Plugins, by `type.id`, that are not loaded. */
  readonly disabledPlugins: readonly string[];
  /** Plugins, by `type.id`, without which the daemon does not start. */
  readonly requiredPlugins: readonly string[];
  /** Wanted oom_score_adj of the daemon, 0 to leave it. */
  readonly oomScore: number;
  /** Cgroup that the daemon moves into, "" for none. */
  readonly cgroupPath: string;
  /** Durations by their key, in milliseconds. */
  readonly timeoutsMs: ReadonlyMap<string, number>;
  readonly streamProcessors: ReadonlyMap<string, StreamProcessorConfig>;
  /** Tables of `[plugins."type.id"]`, by `type.id`, merged over the defaults. */
  readonly plugins: ReadonlyMap<string, PluginTable>;
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
}

/** @source containerd/log v0.1 context.go `SetLevel` */
export const logLevels = ["trace", "debug", "info", "warn", "error", "fatal", "panic"] as const;
export type LogLevel = (typeof logLevels)[number];

export interface StreamProcessorConfig {
  readonly accepts: readonly string[];
  readonly returns: string;
  readonly path: string;
  readonly args: readonly string[];
  readonly env: readonly string[];
}

/** Where a plugin keeps what survives a reboot, such as `<root>/io.containerd.content.v1.content`. */
export function pluginRoot(config: FleetConfig, plugin: string): string {
  return `${config.root}/${plugin}`;
}

/** Where a plugin keeps what does not, such as `<state>/io.containerd.runtime.v2.task`. */
export function pluginState(config: FleetConfig, plugin: string): string {
  return `${config.state}/${plugin}`;
}
