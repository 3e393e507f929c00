import assert from "node:assert/strict";
import test from "node:test";
import { ErrorKind, isFailure } from "#base/errors.ts";
import type { FleetConfig, PluginTable } from "#config/config.ts";
import { pluginUri } from "#config/manifest.ts";
import { completeTables } from "#config/plugin-tables.ts";
import { readMetadataConfig, readSchedulerConfig } from "./config.ts";
import {
  metadataPlugin as metadataManifest,
  metadataPlugins,
  schedulerPlugin as schedulerManifest,
} from "./plugins.ts";

const metadataPlugin = pluginUri(metadataManifest);
const schedulerPlugin = pluginUri(schedulerManifest);

function withPlugin(plugin: string, table: PluginTable): FleetConfig {
  const plugins = Object.entries(completeTables({ [plugin]: table }, metadataPlugins));
  return { root: "/r", plugins: new Map(plugins), sources: [] } as unknown as FleetConfig;
}

test("the defaults are containerd's", () => {
  const config = withPlugin("other", {});
  assert.deepEqual(readMetadataConfig(config), {
    path: `/r/${metadataPlugin}/meta.db`,
    policy: "shared",
    durable: true,
  });
  assert.deepEqual(readSchedulerConfig(config), {
    pauseThreshold: 0.02,
    deletionThreshold: 0,
    mutationThreshold: 100,
    scheduleDelayMs: 0,
    startupDelayMs: 100,
  });
});

test("values are read, and moved into their range", () => {
  const metadata = readMetadataConfig(
    withPlugin(metadataPlugin, { content_sharing_policy: "isolated", no_sync: true }),
  );
  assert.deepEqual([metadata.policy, metadata.durable], ["isolated", false]);
  const scheduler = readSchedulerConfig(
    withPlugin(schedulerPlugin, {
      pause_threshold: 0.9,
      mutation_threshold: -1,
      startup_delay: "1m",
      schedule_delay: "-1s",
    }),
  );
  assert.deepEqual(
    [scheduler.pauseThreshold, scheduler.mutationThreshold, scheduler.startupDelayMs, scheduler.scheduleDelayMs],
    [0.5, 0, 60_000, 0],
  );
});

test("values that make no sense are refused", () => {
  const refused = (text: RegExp) => (error: unknown) =>
    isFailure(error, ErrorKind.InvalidArgument) && text.test(error.message);
  const metadata = (table: PluginTable) => () => readMetadataConfig(withPlugin(metadataPlugin, table));
  assert.throws(metadata({ content_sharing_policy: "some" }), refused(/^unknown policy: some: invalid argument$/));
  assert.throws(metadata({ content_sharing_policy: 1 }), refused(/content_sharing_policy: expected a string, got/));
  const scheduler = (table: PluginTable) => () => readSchedulerConfig(withPlugin(schedulerPlugin, table));
  assert.throws(scheduler({ startup_delay: "soon" }), refused(/startup_delay: .*invalid duration "soon"/));
  assert.throws(scheduler({ mutation_threshold: "many" }), refused(/mutation_threshold: expected an integer, got/));
});
