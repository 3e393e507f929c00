import { resolve } from "node:path";
import { parseDuration } from "#base/duration.ts";
import { errorMessage } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import {
  type ConfigSource,
  type FleetConfig,
  type ListenerConfig,
  type LogConfig,
  logLevels,
  type PluginTable,
} from "./config.ts";
import { defaultTimeouts } from "./defaults.ts";
import type { ConfigDocument } from "./document.ts";
import { type DaemonFlags, defaultConfigPath } from "./flags.ts";
import { callMetrics, grpcListener, metricsListener, ttrpcListener } from "./listeners.ts";
import { type LoadedDocument, loadDocument } from "./load-document.ts";
import { type ConfigurablePlugin, pluginUri } from "./manifest.ts";
import { completeTables } from "./plugin-tables.ts";
import { PluginSettings } from "./settings.ts";

export interface LoadedConfig {
  readonly config: FleetConfig;
  /** What the user should know, such as unknown keys, in containerd's words. */
  readonly warnings: readonly string[];
}

const grpcPlugin = pluginUri(grpcListener);
const ttrpcPlugin = pluginUri(ttrpcListener);

/**
 * Loads the configuration of the fleet: defaults, then the file, then what it imports, then the flags.
 *
 * The file is read only if it exists or was named. Files of older versions are migrated in memory.
 *
 * @param plugins - Those whose tables the caller reads. Tables of other plugins are what the files say, without defaults.
 * @throws Error with containerd's text, or one that names file, key and what belongs there.
 * @source containerd v2.3.4 cmd/containerd/command/main.go `App`, `applyFlags`
 */
export async function loadConfig(flags: DaemonFlags, plugins: readonly ConfigurablePlugin[]): Promise<LoadedConfig> {
  const { document, sources, warnings } =
    flags.config === undefined
      ? await loadDocument(defaultConfigPath, plugins, { mayBeMissing: true })
      : await loadDocument(resolve(flags.config), plugins);
  const configured = applyFlags(document, flags);
  const tables = completeTables(configured.plugins ?? {}, [
    grpcListener,
    ttrpcListener,
    metricsListener,
    callMetrics,
    ...plugins,
  ]);
  return { config: buildConfig({ document: configured, tables, sources, flags }), warnings };
}

/** A ttrpc address that no file gives follows the address of the flag, as does its owner. */
function applyFlags(document: ConfigDocument, { root, state, address }: DaemonFlags): ConfigDocument {
  const plugins: Record<string, PluginTable> = { ...document.plugins };
  if (address !== undefined) {
    const grpc = plugins[grpcPlugin] ?? {};
    plugins[grpcPlugin] = { ...grpc, address };
    plugins[ttrpcPlugin] ??= {
      address: `${address}.ttrpc`,
      ...(Object.hasOwn(grpc, "uid") ? { uid: grpc["uid"] } : {}),
      ...(Object.hasOwn(grpc, "gid") ? { gid: grpc["gid"] } : {}),
    };
  }
  return {
    ...document,
    ...(root === undefined ? {} : { root }),
    ...(state === undefined ? {} : { state }),
    plugins,
  };
}

interface BuildInput extends Pick<LoadedDocument, "document" | "sources"> {
  readonly tables: Readonly<Record<string, PluginTable>>;
  readonly flags: DaemonFlags;
}

function buildConfig({ document, tables: plugins, sources, flags }: BuildInput): FleetConfig {
  const { root, state } = topDirectories(document);
  return {
    root,
    state,
    temp: document.temp ? resolve(document.temp) : "",
    grpc: listener(plugins, grpcPlugin, sources),
    ttrpc: listener(plugins, ttrpcPlugin, sources),
    log: logConfig(document, flags),
    metrics: {
      address: settingsOf(plugins, pluginUri(metricsListener), sources).string("address"),
      hasHistogram: settingsOf(plugins, pluginUri(callMetrics), sources).boolean("grpc_histogram"),
    },
    disabledPlugins: document.disabled_plugins ?? [],
    requiredPlugins: document.required_plugins ?? [],
    oomScore: document.oom_score ?? 0,
    cgroupPath: document.cgroup?.path ?? "",
    timeoutsMs: new Map(
      Object.entries({ ...defaultTimeouts, ...document.timeouts }).map(([key, text]) => [key, timeoutOf(text)]),
    ),
    streamProcessors: new Map(
      Object.entries(document.stream_processors ?? {}).map(
        ([id, { accepts = [], returns = "", path = "", args = [], env = [] }]) => [
          id,
          { accepts, returns, path, args, env },
        ],
      ),
    ),
    proxyPlugins: new Map(
      Object.entries(document.proxy_plugins ?? {}).map(
        ([name, { type = "", address = "", platform = "", exports = {}, capabilities = [] }]) => [
          name,
          { type, address, platform, exports, capabilities },
        ],
      ),
    ),
    plugins: new Map(Object.entries(plugins)),
    sources,
  };
}

/** @source containerd v2.3.4 cmd/containerd/server/server.go `CreateTopLevelDirectories` */
function topDirectories({ root = "", state = "" }: ConfigDocument): { root: string; state: string } {
  if (root === "") {
    throw new Error("root must be specified");
  }
  if (state === "") {
    throw new Error("state must be specified");
  }
  const directories = { root: resolve(root), state: resolve(state) };
  if (directories.root === directories.state) {
    throw new Error("root and state must be different paths");
  }
  return directories;
}

function settingsOf(
  plugins: Readonly<Record<string, PluginTable>>,
  plugin: string,
  sources: readonly ConfigSource[],
): PluginSettings {
  return new PluginSettings(plugins[plugin] ?? {}, ["plugins", plugin], sources);
}

function listener(
  plugins: Readonly<Record<string, PluginTable>>,
  plugin: string,
  sources: readonly ConfigSource[],
): ListenerConfig {
  const settings = settingsOf(plugins, plugin, sources);
  const address = settings.string("address");
  if (address === "" && plugin === grpcPlugin) {
    throw new Error("grpc address cannot be empty: invalid argument");
  }
  return { address: address && resolve(address), uid: settings.integer("uid"), gid: settings.integer("gid") };
}

/** @source containerd v2.3.4 cmd/containerd/command/main.go `setLogLevel`, `setLogFormat`; logrus logrus.go `ParseLevel` */
function logConfig({ debug = {} }: ConfigDocument, { logLevel }: DaemonFlags): LogConfig {
  const written = logLevel || debug.level || "info";
  const name = written.toLowerCase() === "warning" ? "warn" : written.toLowerCase();
  const level = logLevels.find((candidate) => candidate === name);
  if (level === undefined) {
    throw new Error(`not a valid logrus Level: ${quote(written)}`);
  }
  const format = debug.format || "text";
  if (format !== "text" && format !== "json") {
    throw new Error(`unknown log format: ${format}`);
  }
  return { level, format, hasTraceId: debug.log_trace_id ?? false };
}

/** @source containerd v2.3.4 cmd/containerd/server/server.go `New` */
function timeoutOf(text: string): number {
  try {
    return parseDuration(text);
  } catch (error) {
    throw new Error(`unable to parse ${text} into a time duration: ${errorMessage(error)}`, { cause: error });
  }
}
