import { existsSync } from "node:fs";
import { parseDuration } from "#base/duration.ts";
import { ErrorKind, errorMessage, failure } from "#base/errors.ts";
import { type FleetConfig, pluginRoot, pluginState } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import { pluginUri } from "#config/manifest.ts";
import type { PluginSettings } from "#config/settings.ts";
import { describeSettings } from "./described-settings.ts";
import { runtimePlugin } from "./runtime-plugin.ts";
import { type RuntimeSettings, readRuntimes } from "./runtime-settings.ts";
import { serverPlugin } from "./server-plugin.ts";

/** What can be set of pods and their containers, read and judged. @source containerd v2.3.4 internal/cri/config/config.go `RuntimeConfig` */
export interface CriSettings {
  /** `<root>/io.containerd.grpc.v1.cri`, where containerd keeps the files of pods that survive a reboot. */
  readonly rootDirectory: string;
  /** `<state>/io.containerd.grpc.v1.cri`, for those that do not. */
  readonly stateDirectory: string;
  readonly runtimes: ReadonlyMap<string, RuntimeSettings>;
  readonly defaultRuntimeName: string;
  readonly network: NetworkSettings;
  readonly enableSelinux: boolean;
  readonly selinuxCategoryRange: number;
  readonly containerLogLineBytesMax: number;
  readonly disableApparmor: boolean;
  readonly restrictOomScoreAdj: boolean;
  readonly disableProcMount: boolean;
  readonly unsetSeccompProfile: string;
  readonly tolerateMissingHugetlbController: boolean;
  readonly disableHugetlbController: boolean;
  readonly deviceOwnershipFromSecurityContext: boolean;
  readonly ignoreImageDefinedVolumes: boolean;
  readonly enableUnprivilegedPorts: boolean;
  readonly enableUnprivilegedIcmp: boolean;
  readonly enableCdi: boolean;
  readonly cdiSpecDirectories: readonly string[];
  /** 0 for no end. */
  readonly drainExecSyncIoMs: number;
  readonly ignoreDeprecationWarnings: readonly string[];
  readonly statsCollectPeriodMs: number;
  readonly statsRetentionPeriodMs: number;
  readonly enableCriu: boolean;
  readonly enableExperimentalRestoreViaCreate: boolean;
  /** File of classes of block I/O, "" for none. */
  readonly blockIoConfigFile: string;
  readonly ignoreBlockioNotEnabledErrors: boolean;
  readonly ignoreRdtNotEnabledErrors: boolean;
  /** What was read, for the verbose status. */
  readonly described: Readonly<Record<string, unknown>>;
}

/** Says of settings that ask for what is not served that they have no effect. */
export function ineffectiveSettings(settings: CriSettings): string[] {
  return settings.enableExperimentalRestoreViaCreate
    ? ["enable_experimental_restore_via_create: no container is made of a checkpoint"]
    : [];
}

/** @source containerd v2.3.4 internal/cri/config/config.go `CniConfig` */
export interface NetworkSettings {
  /** Where CNI programs are, in the order in which they are looked for. */
  readonly binaryDirectories: readonly string[];
  readonly confDirectory: string;
  /** Configurations that are read there; 0 for all. */
  readonly confNumMax: number;
  readonly setupSerially: boolean;
  readonly confTemplate: string;
  readonly ipPreference: "ipv4" | "ipv6" | "cni";
  readonly internalLoopback: boolean;
  /** Where network namespaces are mounted. */
  readonly netnsDirectory: string;
}

/** The plugin that has the setting for classes of block I/O, of another process. */
const tasksService = "io.containerd.service.v1.tasks-service";
const statsCollectMs = 1_000;
const statsRetentionMs = 120_000;

/**
 * Reads the settings of pods.
 *
 * @throws {@link FlotillaError} `invalid_argument`, with containerd's text where it has one, when something can't be.
 */
export function readCriSettings(config: FleetConfig): CriSettings {
  const server = pluginUri(serverPlugin);
  const table = pluginTable(config, pluginUri(runtimePlugin));
  const containerd = table.table("containerd");
  const rootDirectory = pluginRoot(config, server);
  const stateDirectory = pluginState(config, server);
  return {
    rootDirectory,
    stateDirectory,
    runtimes: readRuntimes(containerd, existsSync("/sys/fs/cgroup/cgroup.controllers")),
    defaultRuntimeName: containerd.string("default_runtime_name"),
    network: readNetwork(table.table("cni"), table.boolean("netns_mounts_under_state_dir") ? stateDirectory : ""),
    enableSelinux: table.boolean("enable_selinux"),
    selinuxCategoryRange: table.integer("selinux_category_range"),
    containerLogLineBytesMax: table.integer("max_container_log_line_size"),
    disableApparmor: table.boolean("disable_apparmor"),
    restrictOomScoreAdj: table.boolean("restrict_oom_score_adj"),
    disableProcMount: table.boolean("disable_proc_mount"),
    unsetSeccompProfile: table.string("unset_seccomp_profile"),
    tolerateMissingHugetlbController: table.boolean("tolerate_missing_hugetlb_controller"),
    disableHugetlbController: table.boolean("disable_hugetlb_controller"),
    deviceOwnershipFromSecurityContext: table.boolean("device_ownership_from_security_context"),
    ignoreImageDefinedVolumes: table.boolean("ignore_image_defined_volumes"),
    enableUnprivilegedPorts: table.boolean("enable_unprivileged_ports"),
    enableUnprivilegedIcmp: table.boolean("enable_unprivileged_icmp"),
    enableCdi: table.boolean("enable_cdi"),
    cdiSpecDirectories: table.strings("cdi_spec_dirs"),
    drainExecSyncIoMs: optionalDurationMs(table, "drain_exec_sync_io_timeout", 0),
    ignoreDeprecationWarnings: table.strings("ignore_deprecation_warnings"),
    statsCollectPeriodMs: optionalDurationMs(table, "stats_collect_period", statsCollectMs),
    statsRetentionPeriodMs: optionalDurationMs(table, "stats_retention_period", statsRetentionMs),
    enableCriu: table.boolean("enable_criu"),
    enableExperimentalRestoreViaCreate: table.boolean("enable_experimental_restore_via_create"),
    blockIoConfigFile: blockIoFile(config),
    ignoreBlockioNotEnabledErrors: containerd.boolean("ignore_blockio_not_enabled_errors"),
    ignoreRdtNotEnabledErrors: containerd.boolean("ignore_rdt_not_enabled_errors"),
    described: describeSettings(table.raw(), {
      containerdRootDir: config.root,
      containerdEndpoint: config.grpc.address,
      rootDir: rootDirectory,
      stateDir: stateDirectory,
    }),
  };
}

/** Settings of another process have no defaults here. */
function blockIoFile(config: FleetConfig): string {
  const table = pluginTable(config, tasksService);
  const key = "blockio_config_file";
  return table.has(key) ? table.string(key) : "";
}

function readNetwork(cni: PluginSettings, stateDirectory: string): NetworkSettings {
  const single = cni.string("bin_dir");
  const several = cni.strings("bin_dirs");
  const isDefault = several.length === 1 && several[0] === "/opt/cni/bin";
  if (single !== "" && several.length > 0 && !isDefault) {
    throw failure(ErrorKind.InvalidArgument, "`cni.bin_dir` and `cni.bin_dirs` cannot be set at the same time");
  }
  const preference = cni.string("ip_pref");
  return {
    binaryDirectories: single === "" ? several : [single],
    confDirectory: cni.string("conf_dir"),
    confNumMax: cni.integer("max_conf_num"),
    setupSerially: cni.boolean("setup_serially"),
    confTemplate: cni.string("conf_template"),
    // What containerd does not know means the first address of IPv4 as well.
    ipPreference: preference === "ipv6" || preference === "cni" ? preference : "ipv4",
    internalLoopback: cni.boolean("use_internal_loopback"),
    netnsDirectory: stateDirectory === "" ? "/var/run/netns" : `${stateDirectory}/netns`,
  };
}

function optionalDurationMs(table: PluginSettings, key: string, absentMs: number): number {
  const text = table.string(key);
  if (text === "") {
    return absentMs;
  }
  try {
    return parseDuration(text);
  } catch (error) {
    throw failure(ErrorKind.InvalidArgument, `invalid \`${key}\`: ${errorMessage(error)}`);
  }
}
