import { resolve } from "node:path";
import { checkSettings } from "#config/check-settings.ts";
import { defaultDocument, defaultTimeouts } from "#config/defaults.ts";
import type { ConfigDocument } from "#config/document.ts";
import { defaultConfigPath, selectDaemonFlags } from "#config/flags.ts";
import { formatDocument } from "#config/format-document.ts";
import { loadDocument } from "#config/load-document.ts";
import { pluginUri } from "#config/manifest.ts";
import { completeTables } from "#config/plugin-tables.ts";
import { PluginSettings } from "#config/settings.ts";
import type { PluginManifest } from "#fleet/manifest.ts";
import { allPlugins } from "../../plugins.ts";
import type { Command, CommandInput } from "./command.ts";
import { print } from "./output.ts";

/** @source containerd v2.3.4 cmd/containerd/command/config.go `configCommand` */
export const configCommand: Command = {
  names: ["config"],
  usage: "Show the configuration",
  commands: [
    {
      names: ["default"],
      usage: "Print the configuration that holds without a file",
      run: () => print(formatDocument(completed(defaultDocument))),
    },
    {
      names: ["dump"],
      usage: "Print what the configuration file and its imports come to",
      run: dump,
    },
    {
      names: ["migrate"],
      usage: "Print the same as dump: the configuration in the latest version; imported files are left as they are",
      run: dump,
    },
  ],
};

/** A file that does not exist counts as an empty one. What would be logged at start goes to standard error; a setting of a wrong type is refused. */
async function dump({ globals }: CommandInput): Promise<void> {
  const file = resolve(selectDaemonFlags(globals).config ?? defaultConfigPath);
  const { document, sources, warnings } = await loadDocument(file, allPlugins, { mayBeMissing: true });
  for (const warning of warnings) {
    process.stderr.write(`${warning}\n`);
  }
  const complete = completed(document);
  for (const plugin of allPlugins) {
    const uri = pluginUri(plugin);
    checkSettings(plugin.settings ?? {}, new PluginSettings(complete.plugins?.[uri] ?? {}, ["plugins", uri], sources));
  }
  await print(formatDocument(complete));
}

/** Adds what the defaults of plugins and the timeouts say. Of plugins that are disabled there is only what the file says. */
function completed(document: ConfigDocument): ConfigDocument {
  const timeouts: Record<string, string> = { ...document.timeouts };
  const isEnabled = (plugin: PluginManifest): boolean =>
    document.disabled_plugins?.includes(pluginUri(plugin)) !== true;
  for (const [key, value] of Object.entries(defaultTimeouts)) {
    timeouts[key] ||= value;
  }
  return {
    ...document,
    plugins: completeTables(document.plugins ?? {}, allPlugins.filter(isEnabled)),
    timeouts,
    ...(document.proxy_plugins === undefined
      ? {}
      : { proxy_plugins: map(document.proxy_plugins, completeProxyPlugin) }),
    ...(document.stream_processors === undefined
      ? {}
      : { stream_processors: map(document.stream_processors, completeStreamProcessor) }),
  };
}

type Section<K extends "proxy_plugins" | "stream_processors"> = NonNullable<ConfigDocument[K]>;

function map<T>(section: Readonly<Record<string, T>>, complete: (value: T) => T): Record<string, T> {
  return Object.fromEntries(Object.entries(section).map(([name, value]) => [name, complete(value)]));
}

function completeProxyPlugin(written: Section<"proxy_plugins">[string]): Section<"proxy_plugins">[string] {
  const { type = "", address = "", platform = "", exports, capabilities = [] } = written;
  return { type, address, platform, ...(exports === undefined ? {} : { exports }), capabilities };
}

function completeStreamProcessor(written: Section<"stream_processors">[string]): Section<"stream_processors">[string] {
  const { accepts = [], returns = "", path = "", args = [], env = [] } = written;
  return { accepts, returns, path, args, env };
}
