import { isTable, type TomlTable } from "#config/toml-table.ts";

const server = "io.containerd.grpc.v1.cri";
const images = "io.containerd.cri.v1.images";
const runtime = "io.containerd.cri.v1.runtime";

/** What stays with the server that answers the kubelet. @source containerd v2.3.4 plugins/cri/cri.go `configMigration` */
const serverKeys = [
  "disable_tcp_service",
  "stream_server_address",
  "stream_server_port",
  "stream_idle_timeout",
  "enable_tls_streaming",
  "x509_key_pair_streaming",
];
/** @source containerd v2.3.4 plugins/cri/images/plugin.go `migrateConfig` */
const imageKeys = [
  "registry",
  "image_decryption",
  "max_concurrent_downloads",
  "image_pull_progress_timeout",
  "image_pull_with_sync_fs",
  "stats_collect_period",
];
/** Keys of the table `containerd` that went to the image service. */
const imageContainerdKeys = ["snapshotter", "disable_snapshot_annotations", "discard_unpacked_layers"];

/**
 * Splits the one table that CRI had up to version 2 into the tables of its server, its image service and its runtime service. Settings that
 * stand in the new tables already are kept, but for the image service, where the old ones win.
 *
 * @source containerd v2.3.4 plugins/cri/images/plugin.go and plugins/cri/runtime/plugin.go `configMigration`
 */
export function splitCriTables(plugins: Record<string, TomlTable>): void {
  const source = plugins[server];
  if (source === undefined) {
    return;
  }
  plugins[images] = imagesTable(source, plugins[images] ?? {});
  plugins[runtime] = runtimeTable(source, plugins[runtime] ?? {});
  plugins[server] = pick(source, serverKeys);
}

function imagesTable(source: TomlTable, present: TomlTable): TomlTable {
  const containerd = tableAt(source, "containerd");
  const pinned = {
    ...tableAt(present, "pinned_images"),
    ...(Object.hasOwn(source, "sandbox_image") ? { sandbox: source["sandbox_image"] } : {}),
  };
  return {
    ...present,
    ...pick(source, imageKeys),
    ...pick(containerd, imageContainerdKeys),
    ...(Object.keys(pinned).length > 0 ? { pinned_images: pinned } : {}),
  };
}

function runtimeTable(source: TomlTable, present: TomlTable): TomlTable {
  const moved = new Set(["cni", "containerd", "sandbox_image", ...imageKeys, ...serverKeys]);
  const table: Record<string, unknown> = { ...omit(source, moved), ...present };
  if (isTable(source["cni"])) {
    const { bin_dir: directory, ...cni } = source["cni"];
    const merged: Record<string, unknown> = { ...cni, ...tableAt(present, "cni") };
    const directories = merged["bin_dirs"];
    if (typeof directory === "string" && (!Array.isArray(directories) || directories.length === 0)) {
      merged["bin_dirs"] = [directory];
    }
    table["cni"] = merged;
  }
  if (isTable(source["containerd"])) {
    const containerd: Record<string, unknown> = {
      ...omit(source["containerd"], new Set(imageContainerdKeys)),
      ...tableAt(present, "containerd"),
    };
    if (isTable(containerd["runtimes"])) {
      containerd["runtimes"] = Object.fromEntries(
        Object.entries(containerd["runtimes"]).map(([name, settings]) => [name, renameSandboxMode(settings)]),
      );
    }
    table["containerd"] = containerd;
  }
  return table;
}

function renameSandboxMode(settings: unknown): unknown {
  if (!isTable(settings) || !Object.hasOwn(settings, "sandbox_mode") || Object.hasOwn(settings, "sandboxer")) {
    return settings;
  }
  const { sandbox_mode: sandboxer, ...rest } = settings;
  return { ...rest, sandboxer };
}

function tableAt(table: TomlTable, key: string): TomlTable {
  const value = table[key];
  return isTable(value) ? value : {};
}

function pick(table: TomlTable, keys: readonly string[]): TomlTable {
  return Object.fromEntries(Object.entries(table).filter(([key]) => keys.includes(key)));
}

function omit(table: TomlTable, keys: ReadonlySet<string>): TomlTable {
  return Object.fromEntries(Object.entries(table).filter(([key]) => !keys.has(key)));
}
