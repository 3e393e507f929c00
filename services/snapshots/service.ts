import { errorMessage } from "#base/errors.ts";
import { type FleetConfig, pluginRoot } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import { pluginUri } from "#config/manifest.ts";
import type { Logger } from "#fleet/log.ts";
import type { PluginManifest } from "#fleet/manifest.ts";
import type { PluginDefinition } from "#fleet/plugin.ts";
import type { ProcessContext, ProcessParts } from "#fleet/run.ts";
import { openChainSnapshots } from "./chain-snapshots.ts";
import { getSnapshotter, Snapshotter, type SnapshotterWatch } from "./domain/snapshotter.ts";
import type { SnapshotDriver, SnapshotDriverDefinition } from "./drivers/driver.ts";
import { snapshotDrivers } from "./drivers/index.ts";
import type { TreeWorkers } from "./drivers/trees.ts";
import { connectSnapshotIndex } from "./index-client.ts";
import { layerPlugins } from "./layers/plugin-definitions.ts";
import { snapshotsGrpcPlugin } from "./plugins.ts";
import { type RepairedSnapshotter, reconcileSnapshots } from "./reconcile.ts";
import { directoriesService } from "./rpc/directories.ts";
import { snapshotsService } from "./rpc/snapshots.ts";
import { LayerThreads } from "./threads/layer-threads.ts";
import { TreeThreads } from "./threads/tree-threads.ts";

/**
 * Puts the snapshots process together: drivers for the directories, the index in the metadata process for the records.
 *
 * Drivers are opened and compared with the records before anything is served, so no call ever meets what a crash has left. When
 * the records cannot be had the process does not start, and is started again.
 */
export async function composeSnapshots(context: ProcessContext): Promise<ProcessParts> {
  const { config, log } = context;
  const index = connectSnapshotIndex(context.connect("metadata"));
  const trees = context.resources.use(new TreeThreads());
  const opened = await openDrivers(config, trees);
  const snapshotters = new Map<string, Snapshotter>();
  for (const { manifest, outcome } of opened) {
    if ("driver" in outcome) {
      snapshotters.set(manifest.id, new Snapshotter(manifest.id, outcome.driver, index, logTroubles(log)));
    }
  }
  logRepairs(log, await reconcileSnapshots(snapshotters, index));
  const layers = layerPlugins(context, {
    workers: context.resources.use(new LayerThreads()),
    getSnapshots: ({ snapshotter, ...owner }) => openChainSnapshots(getSnapshotter(snapshotters, snapshotter), owner),
  });
  return {
    plugins: [
      ...opened.map(driverPlugin),
      { manifest: snapshotsGrpcPlugin, init: () => ({ services: [snapshotsService(snapshotters)] }) },
      ...layers.plugins,
    ],
    services: [directoriesService(snapshotters), ...layers.services],
  };
}

interface OpenedDriver {
  readonly manifest: PluginManifest;
  readonly outcome: { readonly driver: SnapshotDriver } | { readonly error: unknown };
}

/** Opens every driver that is not disabled; what fails is told when its plugin is initialised. */
async function openDrivers(config: FleetConfig, trees: TreeWorkers): Promise<OpenedDriver[]> {
  const enabled = snapshotDrivers.filter(({ manifest }) => !config.disabledPlugins.includes(pluginUri(manifest)));
  return await Promise.all(enabled.map((definition) => openDriver(definition, config, trees)));
}

async function openDriver(
  definition: SnapshotDriverDefinition,
  config: FleetConfig,
  trees: TreeWorkers,
): Promise<OpenedDriver> {
  const { manifest } = definition;
  const uri = pluginUri(manifest);
  try {
    const driver = await definition.open({ root: pluginRoot(config, uri), settings: pluginTable(config, uri), trees });
    return { manifest, outcome: { driver } };
  } catch (error) {
    return { manifest, outcome: { error } };
  }
}

function driverPlugin({ manifest, outcome }: OpenedDriver): PluginDefinition {
  return {
    manifest,
    init: () => {
      if ("error" in outcome) {
        throw outcome.error;
      }
      const { root, capabilities } = outcome.driver;
      return { exports: { root }, capabilities };
    },
  };
}

/** Ids that one line of the log tells. */
const idsToldMax = 100;

function logTroubles(log: Logger): SnapshotterWatch {
  return {
    onRecordLeft: ({ namespace, snapshotter, key }, error) =>
      log.warn(
        { ns: namespace, snapshotter, key, err: error },
        "the record of a snapshot that could not be made stays",
      ),
    onRemovalFailed: (snapshotter, error) =>
      log.warn({ snapshotter, err: error }, "directories of snapshots could not be deleted"),
  };
}

function logRepairs(log: Logger, repaired: readonly RepairedSnapshotter[]): void {
  for (const { snapshotter, unknownIds, aside, madeIds, lost } of repaired) {
    if (unknownIds.length > 0 && aside !== undefined) {
      log.error({ snapshotter, ids: unknownIds.map(String), path: aside }, "put aside directories without a record");
    } else if (unknownIds.length > 0) {
      log.error(
        { snapshotter, count: unknownIds.length, ids: unknownIds.slice(0, idsToldMax).map(String) },
        "most directories of snapshots have no record, as if the records were lost: nothing is touched",
      );
    }
    if (madeIds.length > 0) {
      log.warn({ snapshotter, ids: madeIds.map(String) }, "made the missing directories of snapshots");
    }
    for (const { location, error } of lost) {
      const why = error === undefined ? {} : { err: errorMessage(error) };
      log.error(
        { snapshotter, id: String(location.id), ...why },
        `the directory of a ${location.kind} snapshot is gone`,
      );
    }
  }
}
