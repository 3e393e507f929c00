import { type ConfigDocument, configVersion } from "./document.ts";
import { type ConfigurablePlugin, pluginUri } from "./manifest.ts";
import { isTable, type TomlTable } from "./toml-table.ts";

type PluginTables = Record<string, TomlTable>;

/** Full names of the plugins that version 1 knew by a short one. @source containerd v2.3.4 config.go `v1MigratePluginName` */
const fullNames: ReadonlyMap<string, string> = new Map([
  ["cri", "io.containerd.grpc.v1.cri"],
  ["cgroups", "io.containerd.monitor.v1.cgroups"],
  ["linux", "io.containerd.runtime.v1.linux"],
  ["scheduler", "io.containerd.gc.v1.scheduler"],
  ["bolt", "io.containerd.metadata.v1.bolt"],
  ["task", "io.containerd.runtime.v2.task"],
  ["opt", "io.containerd.internal.v1.opt"],
  ["restart", "io.containerd.internal.v1.restart"],
  ["tracing", "io.containerd.internal.v1.tracing"],
  ["otlp", "io.containerd.tracing.processor.v1.otlp"],
  ["aufs", "io.containerd.snapshotter.v1.aufs"],
  ["btrfs", "io.containerd.snapshotter.v1.btrfs"],
  ["devmapper", "io.containerd.snapshotter.v1.devmapper"],
  ["native", "io.containerd.snapshotter.v1.native"],
  ["overlayfs", "io.containerd.snapshotter.v1.overlayfs"],
  ["zfs", "io.containerd.snapshotter.v1.zfs"],
]);

/**
 * Brings a configuration file of an older version to the present one. A file without a version counts as version 1.
 *
 * Sections that became plugins and the short names of version 1 are history of the file and stand here; what a plugin has changed of its own
 * settings stands in its manifest.
 *
 * @param warn - Is told once that the file was migrated, and of each name that could have meant more than one plugin.
 * @source containerd v2.3.4 cmd/containerd/server/config/config.go `LoadConfigWithPlugins`, `migrations`
 */
export function migrateDocument(
  document: ConfigDocument,
  known: readonly ConfigurablePlugin[],
  warn: (warning: string) => void,
): ConfigDocument {
  const from = document.version ?? 0;
  if (from >= configVersion) {
    return document;
  }
  const named = from < 2 ? nameInFull(document, warn) : document;
  const plugins: PluginTables = { ...named.plugins };
  renamePlugins(plugins, known);
  for (const plugin of known) {
    plugin.migrate?.(plugins, warn);
  }
  moveListeners(named, plugins);
  const { grpc: _grpc, ttrpc: _ttrpc, metrics: _metrics, debug, ...kept } = named;
  const { address: _address, uid: _uid, gid: _gid, ...log } = debug ?? {};
  warn(`Configuration migrated from version ${from}, use \`flotilla config migrate\` to avoid migration`);
  return {
    ...kept,
    ...renameLists(kept, known),
    version: configVersion,
    plugins,
    ...(debug === undefined ? {} : { debug: log }),
  };
}

/** A plugin that has another name today is meant where older files disable or require it. containerd lets such an entry have no effect. */
function renameLists(
  { disabled_plugins: disabled, required_plugins: required }: ConfigDocument,
  known: readonly ConfigurablePlugin[],
): Pick<ConfigDocument, "disabled_plugins" | "required_plugins"> {
  const present = new Map(
    known.flatMap((plugin) => (plugin.formerly === undefined ? [] : [[plugin.formerly, plugin] as const])),
  );
  const rename = (name: string): string => {
    const plugin = present.get(name);
    return plugin === undefined ? name : pluginUri(plugin);
  };
  return {
    ...(disabled === undefined ? {} : { disabled_plugins: disabled.map(rename) }),
    ...(required === undefined ? {} : { required_plugins: required.map(rename) }),
  };
}

function nameInFull(document: ConfigDocument, warn: (warning: string) => void): ConfigDocument {
  const fullName = (name: string): string => {
    if (name.includes(".")) {
      return name;
    }
    const known = fullNames.get(name) ?? (name.endsWith("-service") ? `io.containerd.service.v1.${name}` : undefined);
    if (known !== undefined) {
      return known;
    }
    const guess = `io.containerd.grpc.v1.${name}`;
    warn(`Ambiguous ${name} plugin in v1 config, treating as ${guess}`);
    return guess;
  };
  const { plugins, disabled_plugins: disabled, required_plugins: required } = document;
  return {
    ...document,
    ...(plugins === undefined
      ? {}
      : { plugins: Object.fromEntries(Object.entries(plugins).map(([name, table]) => [fullName(name), table])) }),
    ...(disabled === undefined ? {} : { disabled_plugins: disabled.map(fullName) }),
    ...(required === undefined ? {} : { required_plugins: required.map(fullName) }),
  };
}

function renamePlugins(tables: PluginTables, known: readonly ConfigurablePlugin[]): void {
  for (const plugin of known) {
    const table = plugin.formerly === undefined ? undefined : tables[plugin.formerly];
    if (plugin.formerly !== undefined && table !== undefined) {
      tables[pluginUri(plugin)] = table;
      delete tables[plugin.formerly];
    }
  }
}

/**
 * Moves the listeners out of their sections. A table that stands there already wins over the section. Only here does the ttrpc
 * address follow the gRPC address; from version 4 on each listener has its own default.
 *
 * @source containerd v2.3.4 cmd/containerd/server/config/config.go `serviceMigrate`
 */
function moveListeners(
  { debug = {}, grpc = {}, ttrpc = {}, metrics = {} }: ConfigDocument,
  plugins: PluginTables,
): void {
  const add = (plugin: string, table: TomlTable): void => {
    if (!isTable(plugins[plugin]) && Object.keys(table).length > 0) {
      plugins[plugin] = table;
    }
  };
  const { address = "", uid = 0, gid = 0 } = grpc;
  const messageSizes = {
    ...nonEmpty("max_recv_message_size", grpc.max_recv_message_size),
    ...nonEmpty("max_send_message_size", grpc.max_send_message_size),
  };
  if (debug.address) {
    add("io.containerd.server.v1.debug", { address: debug.address, uid: debug.uid ?? 0, gid: debug.gid ?? 0 });
  }
  add("io.containerd.server.v1.grpc", {
    ...(address === "" ? { ...nonEmpty("uid", uid), ...nonEmpty("gid", gid) } : { address, uid, gid }),
    ...messageSizes,
  });
  if (grpc.tcp_address) {
    add("io.containerd.server.v1.grpc-tcp", {
      address: grpc.tcp_address,
      ...nonEmpty("tls_ca", grpc.tcp_tls_ca),
      ...nonEmpty("tls_cert", grpc.tcp_tls_cert),
      ...nonEmpty("tls_key", grpc.tcp_tls_key),
      ...nonEmpty("tls_common_name", grpc.tcp_tls_common_name),
      ...messageSizes,
    });
  }
  const follows = !ttrpc.address && address !== "";
  const ttrpcTable = {
    address: follows ? `${address}.ttrpc` : (ttrpc.address ?? ""),
    uid: ttrpc.uid || (follows ? uid : 0),
    gid: ttrpc.gid || (follows ? gid : 0),
  };
  if (ttrpcTable.address !== "" || ttrpcTable.uid !== 0 || ttrpcTable.gid !== 0) {
    const { address: ttrpcAddress, ...owner } = ttrpcTable;
    add("io.containerd.server.v1.ttrpc", { ...nonEmpty("address", ttrpcAddress), ...owner });
  }
  if (metrics.grpc_histogram === true) {
    add("io.containerd.metrics.v1.grpc-prometheus", { grpc_histogram: true });
  }
  if (metrics.address) {
    add("io.containerd.server.v1.metrics", { address: metrics.address });
  }
}

function nonEmpty(key: string, value: string | number | undefined): TomlTable {
  return value === undefined || value === "" || value === 0 ? {} : { [key]: value };
}
