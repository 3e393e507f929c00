import type { FleetConfig } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import { pluginUri } from "#config/manifest.ts";
import type { PluginSettings } from "#config/settings.ts";
import { nriPlugin } from "../nri-plugin.ts";
import type { ValidatorSettings } from "./adjust/default-validator.ts";
import type { NriOptions } from "./nri.ts";

/** Without a setting. @source containerd/nri v0.12 pkg/api/timeouts.go */
const registrationMsDefault = 5_000;
const requestMsDefault = 2_000;

/**
 * Reads what is set of NRI.
 *
 * @returns undefined when there is to be none.
 * @source containerd v2.3.4 internal/nri/config.go `toOptions`
 */
export function readNriSettings(
  config: FleetConfig,
): Omit<NriOptions, "runtimeName" | "runtimeVersion" | "log" | "metrics" | "deprecations"> | undefined {
  const table = pluginTable(config, pluginUri(nriPlugin));
  if (table.boolean("disable")) {
    return undefined;
  }
  return {
    socketPath: table.boolean("disable_connections") ? "" : table.string("socket_path"),
    pluginDirectory: table.string("plugin_path"),
    configDirectory: table.string("plugin_config_path"),
    registrationMs: table.durationMs("plugin_registration_timeout") || registrationMsDefault,
    requestMs: table.durationMs("plugin_request_timeout") || requestMsDefault,
    validator: readValidator(table.table("default_validator")),
  };
}

function readValidator(table: PluginSettings): ValidatorSettings | undefined {
  if (!table.boolean("enable")) {
    return undefined;
  }
  return {
    rejectsHooks: table.boolean("reject_oci_hook_adjustment"),
    rejectsRuntimeDefaultSeccomp: table.boolean("reject_runtime_default_seccomp_adjustment"),
    rejectsUnconfinedSeccomp: table.boolean("reject_unconfined_seccomp_adjustment"),
    rejectsCustomSeccomp: table.boolean("reject_custom_seccomp_adjustment"),
    rejectsNamespaces: table.boolean("reject_namespace_adjustment"),
    rejectsSysctls: table.boolean("reject_sysctl_adjustment"),
    requiredPlugins: table.strings("required_plugins"),
    tolerateMissingAnnotation: table.string("tolerate_missing_plugins_annotation"),
  };
}
