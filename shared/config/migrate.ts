import { splitCriTables } from "./cri-migration.ts";
import { type ConfigDocument, configVersion } from "./document.ts";
import { isTable, type TomlTable, typeName } from "./toml-table.ts";

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
 * @param warn - Is told once that the file was migrated, and of each name that could have meant more than one plugin.
 * @source containerd v2.3.4 cmd/containerd/server/config/config.go `LoadConfigWithPlugins`, `migrations`
 */
export function migrateDocument(document: ConfigDocument, warn: (warning: string) => void): ConfigDocument {
  const from = document.version ?? 0;
  if (from >= configVersion) {
    return document;
  }
  const named = from < 2 ? nameInFull(document, warn) : document;
  const plugins: PluginTables = { ...named.plugins };
  renamePlugins(plugins);
  moveSchedCore(plugins, warn);
  splitCriTables(plugins);
  moveListeners(named, plugins);
  const { grpc: _grpc, ttrpc: _ttrpc, metrics: _metrics, debug, ...kept } = named;
  const { address: _address, uid: _uid, gid: _gid, ...log } = debug ?? {};
  warn(`Configuration migrated from version ${from}, use \`flotilla config migrate\` to avoid migration`);
  return { ...kept, version: configVersion, plugins, ...(debug === undefined ? {} : { debug: log }) };
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

/** @source containerd v2.3.4 core/metrics/cgroups/cgroups.go and plugins/restart/monitor.go `ConfigMigration` */
function renamePlugins(plugins: PluginTables): void {
  for (const [before, after] of [
    ["io.containerd.monitor.v1.cgroups", "io.containerd.monitor.task.v1.cgroups"],
    ["io.containerd.internal.v1.restart", "io.containerd.monitor.container.v1.restart"],
  ] as const) {
    const table = plugins[before];
    if (table !== undefined) {
      plugins[after] = table;
      delete plugins[before];
    }
  }
}

/** @source containerd v2.3.4 core/runtime/v2/shim_manager.go `ConfigMigration` */
function moveSchedCore(plugins: PluginTables, warn: (warning: string) => void): void {
  const task = plugins["io.containerd.runtime.v2.task"];
  if (task === undefined || !Object.hasOwn(task, "sched_core")) {
    return;
  }
  const { sched_core: schedCore, ...rest } = task;
  plugins["io.containerd.runtime.v2.task"] = rest;
  if (schedCore === true) {
    plugins["io.containerd.shim.v1.manager"] = { ...plugins["io.containerd.shim.v1.manager"], env: ["SCHED_CORE=1"] };
  } else if (schedCore !== false) {
    warn(`skipping migration for non-boolean 'sched_core' value: ${typeName(schedCore)}`);
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
