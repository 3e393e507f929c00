import { parseDuration } from "#base/duration.ts";
import { ErrorKind, errorMessage, failure } from "#base/errors.ts";
import type { FleetConfig } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import { pluginUri } from "#config/manifest.ts";
import type { PluginSettings } from "#config/settings.ts";
import { imagesPlugin } from "../images-plugin.ts";
import type { WrittenCredentials } from "./credentials.ts";
import type { DownloadLimits } from "./pull-image.ts";

/** What can be set of images, read and judged. @source containerd v2.3.4 internal/cri/config/config.go `ImageConfig` */
export interface ImageSettings {
  readonly snapshotter: string;
  /** Whether the layers of an image are given to the collector once they are unpacked. */
  readonly discardsUnpackedLayers: boolean;
  /** Whether what was unpacked is on disk before a pull is done. */
  readonly flushesUnpackedLayers: boolean;
  /** Whether encrypted layers are decrypted with keys of this machine. */
  readonly usesNodeKeys: boolean;
  /** What is fetched of one image side by side, where that is not what all transfers may. */
  readonly downloadLimits: DownloadLimits;
  /** Time without progress, in milliseconds, after which a pull is given up; 0 for never. */
  readonly progressTimeoutMs: number;
  /** Time between two measurements of snapshots, in milliseconds. */
  readonly measureIntervalMs: number;
  /** References of images that are never collected, by what they serve for. */
  readonly pinned: Readonly<Record<string, string>>;
  /** Snapshotters of runtimes that differ from the rest, by the name of the runtime. */
  readonly snapshotterOfRuntime: Readonly<Record<string, string>>;
  /** Directories with a folder for each registry, parted by colons. */
  readonly hostDirectories: string;
  readonly headers: Readonly<Record<string, string>>;
  /** Who we are at a registry, by its host. */
  readonly credentials: Readonly<Record<string, WrittenCredentials>>;
  /** What is set and has no effect here, with the reason. */
  readonly ineffective: readonly string[];
}

/** @source containerd v2.3.4 internal/cri/config/config_unix.go `DefaultImageConfig` */
const defaultHostDirectories = "/etc/containerd/certs.d:/etc/docker/certs.d";

/**
 * Reads the settings of images.
 *
 * @throws {@link FlotillaError} `invalid_argument`, with containerd's text where it has one, when something can't be.
 * @source containerd v2.3.4 internal/cri/config/config.go `ValidateImageConfig`, `CheckLocalImagePullConfigs`
 */
export function readImageSettings(config: FleetConfig): ImageSettings {
  const table = pluginTable(config, pluginUri(imagesPlugin));
  const registry = table.table("registry");
  requireOneWay(registry);
  const keyModel = table.table("image_decryption").string("key_model");
  if (keyModel !== "" && keyModel !== "node") {
    throw failure(
      ErrorKind.InvalidArgument,
      `invalid \`image_decryption.key_model\` ${JSON.stringify(keyModel)}: keys are those of the node, or there are none`,
    );
  }
  const period = table.integer("stats_collect_period");
  if (period <= 0) {
    throw failure(ErrorKind.InvalidArgument, "`stats_collect_period` must be above 0");
  }
  return {
    snapshotter: table.string("snapshotter"),
    discardsUnpackedLayers: table.boolean("discard_unpacked_layers"),
    flushesUnpackedLayers: table.boolean("image_pull_with_sync_fs"),
    usesNodeKeys: keyModel === "node",
    downloadLimits: downloadLimits(table),
    progressTimeoutMs: progressTimeout(table),
    measureIntervalMs: period * 1000,
    pinned: Object.fromEntries(entriesOf(table, "pinned_images").map(([key, entries]) => [key, entries.string(key)])),
    snapshotterOfRuntime: snapshotters(table),
    hostDirectories: registry.string("config_path") || defaultHostDirectories,
    headers: headersOf(registry),
    credentials: {
      ...credentialsOf(entriesOf(registry, "auths"), hostOfUrl),
      ...credentialsOf(entriesOf(registry, "configs"), (host) => host),
    },
    ineffective: ineffective(table),
  };
}

/** Only what is not the default counts: as in containerd, the Transfer service is asked for its own limits then. Below 1 there is none. */
function downloadLimits(table: PluginSettings): DownloadLimits {
  const downloads = table.integer("max_concurrent_downloads");
  const pieceBytes = table.integer("concurrent_layer_fetch_buffer");
  return {
    ...(downloads === imagesPlugin.settings.max_concurrent_downloads.default
      ? {}
      : { maxConcurrentDownloads: Math.max(0, downloads) }),
    ...(pieceBytes > 0 ? { concurrentLayerFetchBytes: pieceBytes } : {}),
  };
}

function requireOneWay(registry: PluginSettings): void {
  if (entriesOf(registry, "mirrors").length > 0) {
    throw failure(
      ErrorKind.InvalidArgument,
      registry.string("config_path") === ""
        ? "`registry.mirrors` is not supported: name a directory of hosts.toml files by `registry.config_path`"
        : "`mirrors` cannot be set when `config_path` is provided",
    );
  }
}

function progressTimeout(table: PluginSettings): number {
  const text = table.string("image_pull_progress_timeout");
  try {
    return text === "" ? 0 : parseDuration(text);
  } catch (error) {
    throw failure(ErrorKind.InvalidArgument, `invalid image_pull_progress_timeout: ${errorMessage(error)}`);
  }
}

/** The keys of a table of names, each with the table that it stands in; none where there is no such table. */
function entriesOf(table: PluginSettings, name: string): (readonly [key: string, entries: PluginSettings])[] {
  if (!table.has(name)) {
    return [];
  }
  const entries = table.table(name);
  return entries.keys().map((key) => [key, entries] as const);
}

function snapshotters(table: PluginSettings): Record<string, string> {
  return Object.fromEntries(
    entriesOf(table, "runtime_platforms")
      .map(([name, platforms]) => [name, platforms.table(name).string("snapshotter")] as const)
      .filter(([, snapshotter]) => snapshotter !== ""),
  );
}

function headersOf(registry: PluginSettings): Record<string, string> {
  return Object.fromEntries(
    entriesOf(registry, "headers").map(([name, headers]) => [name, headers.strings(name).join(", ")]),
  );
}

function credentialsOf(
  entries: readonly (readonly [key: string, entries: PluginSettings])[],
  hostOf: (key: string) => string,
): Record<string, WrittenCredentials> {
  const result: Record<string, WrittenCredentials> = {};
  for (const [key, tables] of entries) {
    const entry = tables.table(key);
    const auth = entry.has("username") ? entry : entry.has("auth") ? entry.table("auth") : undefined;
    if (auth !== undefined) {
      result[hostOf(key)] = {
        username: auth.string("username"),
        password: auth.string("password"),
        auth: auth.string("auth"),
        identityToken: auth.string("identitytoken"),
        serverAddress: "",
      };
    }
  }
  return result;
}

function hostOfUrl(url: string): string {
  return URL.canParse(url) ? new URL(url).host : url;
}

function ineffective(table: PluginSettings): string[] {
  const transfer = 'images are pulled by the Transfer service: see plugins."io.containerd.transfer.v1.local"';
  return [
    ...(table.boolean("disable_snapshot_annotations")
      ? []
      : [
          "disable_snapshot_annotations: snapshotters that fetch layers by themselves are told of them by their capability",
        ]),
    ...(table.boolean("use_local_image_pull") ? [`use_local_image_pull: ${transfer}`] : []),
  ];
}
