import { ErrorKind, errorMessage, failure } from "#base/errors.ts";
import type { FleetConfig, ProxyPluginConfig } from "#config/config.ts";
import { pluginUri } from "#config/manifest.ts";
import { parsePlatform } from "#containerd/platform.ts";
import type { PluginManifest } from "../manifest.ts";
import type { ProcessName } from "../process-name.ts";

/** What a proxy plugin may be, in the words of the configuration, and what containerd calls it. */
const proxyTypes = {
  snapshot: "io.containerd.snapshotter.v1",
  content: "io.containerd.content.v1",
  diff: "io.containerd.differ.v1",
  sandbox: "io.containerd.sandbox.controller.v1",
} as const;

/** What a proxy plugin is, in the words of the configuration. */
export type ProxyKind = keyof typeof proxyTypes;

/** The process that has each kind of proxy plugin behind it. */
const carriers: Readonly<Record<ProxyKind, ProcessName>> = {
  snapshot: "snapshots",
  content: "content",
  diff: "snapshots",
  sandbox: "tasks",
};

/** A plugin behind the socket of somebody else. */
export interface ProxyPlugin {
  readonly kind: ProxyKind;
  readonly name: string;
  /** Path of the socket. */
  readonly address: string;
  readonly manifest: PluginManifest;
}

/** The proxy plugins of a configuration, and what is wrong with the others, in containerd's words. */
export interface ProxyPlugins {
  readonly plugins: readonly ProxyPlugin[];
  readonly warnings: readonly string[];
}

/**
 * The plugins that the configuration says are behind sockets of others. Those of a type that nobody knows are left out, with a warning.
 *
 * @throws {@link FlotillaError} `invalid_argument` when one has no address, or the name of a plugin that is built in.
 * @source containerd v2.3.4 cmd/containerd/server/server.go `LoadPlugins`
 */
export function readProxyPlugins(config: FleetConfig, builtIn: readonly PluginManifest[]): ProxyPlugins {
  const taken = new Set(builtIn.map(pluginUri));
  const plugins: ProxyPlugin[] = [];
  const warnings: string[] = [];
  for (const [name, proxy] of config.proxyPlugins) {
    const kind = kindOf(proxy.type);
    if (kind === undefined) {
      warnings.push(`unknown proxy plugin type ${JSON.stringify(proxy.type)} of ${JSON.stringify(name)}`);
      continue;
    }
    const address = proxy.address.replace(/^unix:\/\//, "");
    if (!address.startsWith("/")) {
      throw failure(
        ErrorKind.InvalidArgument,
        `proxy_plugins.${name}: the address must be the path of a socket, not ${JSON.stringify(proxy.address)}`,
      );
    }
    const uri = pluginUri({ type: proxyTypes[kind], id: name });
    if (taken.has(uri)) {
      throw failure(ErrorKind.InvalidArgument, `proxy_plugins.${name}: ${uri}: plugin: id already registered`);
    }
    taken.add(uri);
    plugins.push({ kind, name, address, manifest: manifestOf(kind, name, proxy, (text) => warnings.push(text)) });
  }
  return { plugins, warnings };
}

/** The proxy plugins that a process has behind it. What is wrong with the configuration is the gateway's to tell. */
export function proxyPluginsOf(
  process: ProcessName,
  config: FleetConfig,
  builtIn: readonly PluginManifest[],
): readonly ProxyPlugin[] {
  return readProxyPlugins(config, builtIn).plugins.filter(
    ({ kind, manifest }) => carriers[kind] === process && !config.disabledPlugins.includes(pluginUri(manifest)),
  );
}

function kindOf(type: string): ProxyKind | undefined {
  return (Object.keys(proxyTypes) as ProxyKind[]).find((kind) => kind === type || proxyTypes[kind] === type);
}

function manifestOf(
  kind: ProxyKind,
  name: string,
  { address, platform, exports, capabilities }: ProxyPluginConfig,
  warn: (text: string) => void,
): PluginManifest {
  const base = { type: proxyTypes[kind], id: name, exports: { ...exports, address }, capabilities };
  if (platform === "") {
    return { ...base, platformDependent: true };
  }
  try {
    return { ...base, platform: parsePlatform(platform) };
  } catch (error) {
    warn(`skipping proxy platform with bad platform: ${name}: ${errorMessage(error)}`);
    return base;
  }
}
