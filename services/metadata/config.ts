import { ErrorKind, errorMessage, FlotillaError, failure } from "#base/errors.ts";
import { type FleetConfig, type PluginTable, pluginRoot } from "#config/config.ts";
import { parseDuration } from "#config/duration.ts";
import type { SchedulerConfig } from "./gc/schedule.ts";
import type { SharingPolicy } from "./store/ingests.ts";

/** Plugin that the database is known by. It keeps containerd's name, since tools look for it. */
export const metadataPlugin = "io.containerd.metadata.v1.bolt";
/** Plugin that the collector is known by. */
export const schedulerPlugin = "io.containerd.gc.v1.scheduler";

export interface MetadataConfig {
  /** Path of the database. */
  readonly path: string;
  readonly policy: SharingPolicy;
  /** Whether commits wait for the disk. */
  readonly durable: boolean;
}

const policies: readonly string[] = ["shared", "isolated"] satisfies readonly SharingPolicy[];

/**
 * Reads `[plugins."io.containerd.metadata.v1.bolt"]`.
 *
 * @throws {@link FlotillaError} `invalid_argument` for an unknown policy.
 * @source containerd v2.3.4 plugins/metadata/plugin.go `BoltConfig`
 */
export function readMetadataConfig(config: FleetConfig): MetadataConfig {
  const table = config.plugins.get(metadataPlugin) ?? {};
  const policy = readText(table, metadataPlugin, "content_sharing_policy", "shared");
  if (!isPolicy(policy)) {
    throw failure(ErrorKind.InvalidArgument, `unknown policy: ${policy}`);
  }
  return {
    path: `${pluginRoot(config, metadataPlugin)}/meta.db`,
    policy,
    durable: table["no_sync"] !== true,
  };
}

function isPolicy(policy: string): policy is SharingPolicy {
  return policies.includes(policy);
}

const pauseThresholdMax = 0.5;

/**
 * Reads `[plugins."io.containerd.gc.v1.scheduler"]`. Values outside their range are moved to its end, as containerd does.
 *
 * @throws {@link FlotillaError} `invalid_argument` for a value of a wrong type.
 * @source containerd v2.3.4 plugins/gc/scheduler.go `config`, `newScheduler`
 */
export function readSchedulerConfig(config: FleetConfig): SchedulerConfig {
  const table = config.plugins.get(schedulerPlugin) ?? {};
  return {
    pauseThreshold: Math.min(Math.max(readNumber(table, "pause_threshold", 0.02), 0), pauseThresholdMax),
    deletionThreshold: readNumber(table, "deletion_threshold", 0),
    mutationThreshold: Math.max(readNumber(table, "mutation_threshold", 100), 0),
    scheduleDelayMs: Math.max(readDuration(table, "schedule_delay", "0ms"), 0),
    startupDelayMs: Math.max(readDuration(table, "startup_delay", "100ms"), 0),
  };
}

function readNumber(table: PluginTable, key: string, absent: number): number {
  const value = table[key] ?? absent;
  if (typeof value !== "number" && typeof value !== "bigint") {
    throw failure(ErrorKind.InvalidArgument, `${schedulerPlugin}: ${key} must be a number`);
  }
  return Number(value);
}

function readDuration(table: PluginTable, key: string, absent: string): number {
  const value = readText(table, schedulerPlugin, key, absent);
  try {
    return parseDuration(value);
  } catch (error) {
    throw new FlotillaError(
      ErrorKind.InvalidArgument,
      `${schedulerPlugin}: ${key}: ${errorMessage(error)}: ${ErrorKind.InvalidArgument}`,
      { cause: error },
    );
  }
}

function readText(table: PluginTable, plugin: string, key: string, absent: string): string {
  const value = table[key];
  if (value === undefined || value === "") {
    return absent;
  }
  if (typeof value !== "string") {
    throw failure(ErrorKind.InvalidArgument, `${plugin}: ${key} must be a string`);
  }
  return value;
}
