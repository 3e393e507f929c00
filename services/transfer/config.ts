import type { FleetConfig } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import { hostPlatformName } from "#config/host-platform.ts";
import { pluginUri } from "#config/manifest.ts";
import { PluginSettings } from "#config/settings.ts";
import { localTransferPlugin } from "./plugins.ts";
import type { RegistriesSettings } from "./registry/ports.ts";
import { defaultRegistriesSettings } from "./registry/registry.ts";
import { defaultUnpackRules, type UnpackRule } from "./unpack/unpack-targets.ts";

/** What can be set of transfers. @source containerd v2.3.4 plugins/transfer/plugin.go `transferConfig` */
export interface TransferSettings {
  readonly registries: RegistriesSettings;
  /** Directories with a folder for each registry, where a client names none. */
  readonly hostDirectories: readonly string[];
  readonly unpackRules: readonly UnpackRule[];
  /** Whether images must be for the platform of a rule, and not just for its operating system. */
  readonly checkPlatform: boolean;
  /** How many layers of an image may be applied at a time; 0 for what suits the machine, which is what containerd's 1 means here. */
  readonly sideBySideMax: number;
}

/** Reads the settings of transfers. @throws {@link FlotillaError} `invalid_argument` when one is of another type. */
export function readTransferSettings(config: FleetConfig): TransferSettings {
  const settings = pluginTable(config, pluginUri(localTransferPlugin));
  const unpacks = settings.integer("max_concurrent_unpacks");
  return {
    registries: {
      ...defaultRegistriesSettings,
      maxConcurrentDownloads: settings.integer("max_concurrent_downloads"),
      concurrentLayerFetchBytes: settings.integer("concurrent_layer_fetch_buffer"),
      maxConcurrentUploads: settings.integer("max_concurrent_uploaded_layers"),
    },
    hostDirectories: settings
      .string("config_path")
      .split(":")
      .filter((path) => path !== ""),
    unpackRules: settings.has("unpack_config")
      ? settings.tables("unpack_config").map(unpackRule)
      : defaultUnpackRules(hostPlatformName()),
    checkPlatform: settings.boolean("check_platform_supported"),
    sideBySideMax: unpacks > 1 ? unpacks : 0,
  };
}

function unpackRule(rule: PluginSettings): UnpackRule {
  const text = (key: string): string => (rule.has(key) ? rule.string(key) : "");
  return {
    platform: text("platform"),
    snapshotter: text("snapshotter"),
    differ: text("differ"),
    configType: text("config_type"),
    layerTypes: rule.has("layer_types") ? rule.strings("layer_types") : [],
    optional: rule.has("optional") && rule.boolean("optional"),
  };
}
