import { chmod, mkdir } from "node:fs/promises";
import { readFileIfThere, replaceFile } from "#base/durable-file.ts";
import type { FleetConfig, ProxyPluginConfig } from "#config/config.ts";

/** Where the sockets of plugins are that the gateway runs, and the list of them. */
export function pluginSocketDirectory({ state }: Pick<FleetConfig, "state">): string {
  return `${state}/plugins`;
}

function listOf(config: Pick<FleetConfig, "state">): string {
  return `${pluginSocketDirectory(config)}/registered.json`;
}

/** Tells the processes of the fleet which plugins the gateway runs. To be called before they are started. */
export async function registerPlugins(
  config: Pick<FleetConfig, "state">,
  plugins: ReadonlyMap<string, ProxyPluginConfig>,
): Promise<void> {
  const directory = pluginSocketDirectory(config);
  // Processes of other users pass through it to the sockets that they are let in on.
  await mkdir(directory, { recursive: true, mode: 0o711 });
  await chmod(directory, 0o711);
  await replaceFile(listOf(config), JSON.stringify(Object.fromEntries(plugins)), { mode: 0o644 });
}

/** The configuration with the plugins that the gateway runs. Those of the configuration win. */
export async function withRegisteredPlugins(config: FleetConfig): Promise<FleetConfig> {
  const text = await readFileIfThere(listOf(config));
  const registered = Object.entries(JSON.parse(text ?? "{}") as Record<string, ProxyPluginConfig>);
  return registered.length === 0
    ? config
    : { ...config, proxyPlugins: new Map([...registered, ...config.proxyPlugins]) };
}
