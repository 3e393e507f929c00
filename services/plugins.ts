import type { PluginManifest } from "#fleet/manifest.ts";
import type { ProcessName } from "#fleet/process-name.ts";
import { contentPlugins } from "./content/plugins.ts";
import { criPlugins } from "./cri/plugins.ts";
import { eventsPlugins } from "./events/plugins.ts";
import { accessPlugin } from "./gateway/access/plugin.ts";
import { gatewayPlugins, supervisorPlugin } from "./gateway/plugins.ts";
import { metadataPlugins } from "./metadata/plugins.ts";
import { snapshotsPlugins } from "./snapshots/plugins.ts";
import { tasksPlugins } from "./tasks/plugins.ts";
import { transferPlugins } from "./transfer/plugins.ts";

/** What each process of the fleet carries, in the order of initialisation. The gateway thereby knows the plugins of a process that does not run. */
export const pluginsByProcess: Readonly<Record<ProcessName, readonly PluginManifest[]>> = {
  events: eventsPlugins,
  metadata: metadataPlugins,
  content: contentPlugins,
  snapshots: snapshotsPlugins,
  tasks: tasksPlugins,
  transfer: transferPlugins,
  cri: criPlugins,
  gateway: gatewayPlugins,
};

/**
 * Every plugin whose table the configuration may have. The one list of the folders that have plugins; `test/tidy/plugins.test.ts` sees to it
 * that none is missing.
 */
export const allPlugins: readonly PluginManifest[] = [
  ...Object.values(pluginsByProcess).flat(),
  supervisorPlugin,
  accessPlugin,
];
