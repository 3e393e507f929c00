import { ErrorKind, failure } from "#base/errors.ts";
import { type FleetConfig, pluginRoot } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import { pluginUri } from "#config/manifest.ts";
import type { SchedulerConfig } from "./gc/schedule.ts";
import { metadataPlugin, schedulerPlugin } from "./plugins.ts";
import type { SharingPolicy } from "./store/ingests.ts";

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
 * @throws {@link FlotillaError} `invalid_argument` for an unknown policy or a value of a wrong type.
 * @source containerd v2.3.4 plugins/metadata/plugin.go `BoltConfig`
 */
export function readMetadataConfig(config: FleetConfig): MetadataConfig {
  const table = pluginTable(config, pluginUri(metadataPlugin));
  const policy = table.string("content_sharing_policy");
  if (!isPolicy(policy)) {
    throw failure(ErrorKind.InvalidArgument, `unknown policy: ${policy}`);
  }
  return {
    path: `${pluginRoot(config, pluginUri(metadataPlugin))}/meta.db`,
    policy,
    durable: !table.boolean("no_sync"),
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
  const table = pluginTable(config, pluginUri(schedulerPlugin));
  return {
    pauseThreshold: Math.min(Math.max(table.number("pause_threshold"), 0), pauseThresholdMax),
    deletionThreshold: table.integer("deletion_threshold"),
    mutationThreshold: Math.max(table.integer("mutation_threshold"), 0),
    scheduleDelayMs: Math.max(table.durationMs("schedule_delay"), 0),
    startupDelayMs: Math.max(table.durationMs("startup_delay"), 0),
  };
}
