import type { PluginManifest } from "#fleet/manifest.ts";
import { contentPlugins } from "./content/plugins.ts";
import { criPlugins } from "./cri/plugins.ts";
import { eventsPlugins } from "./events/plugins.ts";
import { gatewayPlugins, supervisorPlugin } from "./gateway/plugins.ts";
import { metadataPlugins } from "./metadata/plugins.ts";
import { snapshotsPlugins } from "./snapshots/plugins.ts";
import { tasksPlugins } from "./tasks/plugins.ts";
import { transferPlugins } from "./transfer/plugins.ts";
import { uncarriedPlugins } from "./uncarried-plugins.ts";

/**
 * Every plugin whose table the configuration may have. The one list of the folders that have plugins; `test/tidy/plugins.test.ts` sees to it
 * that none is missing. Manifests are plain data, so that the gateway knows the plugins of a process that does not run.
 */
export const allPlugins: readonly PluginManifest[] = [
  ...eventsPlugins,
  ...metadataPlugins,
  ...contentPlugins,
  ...snapshotsPlugins,
  ...tasksPlugins,
  ...transferPlugins,
  ...gatewayPlugins,
  supervisorPlugin,
  ...criPlugins,
  ...uncarriedPlugins,
];
