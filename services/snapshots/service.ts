import { errorMessage } from "#base/errors.ts";
import { type FleetConfig, pluginRoot } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import { pluginUri } from "#config/manifest.ts";
import type { Logger } from "#fleet/log.ts";
import type { PluginManifest } from "#fleet/manifest.ts";
import type { PluginDefinition } from "#fleet/plugin.ts";
import { ProxyLinks } from "#fleet/proxies/proxy-links.ts";
import type { ProxyPlugin } from "#fleet/proxies/proxy-plugins.ts";
import { RemovalMarkReader } from "#fleet/removal-mark.ts";
import type { ProcessContext, ProcessParts } from "#fleet/run.ts";
import type { RpcConnection } from "#wire/client.ts";
import { openChainSnapshots } from "./chain-snapshots.ts";
import type { SnapshotterFront, SnapshotterFronts } from "./domain/front.ts";
import { getSnapshotter, Snapshotter, type SnapshotterWatch } from "./domain/snapshotter.ts";
import type { SnapshotDriver, SnapshotDriverDefinition } from "./drivers/driver.ts";
import { snapshotDrivers } from "./drivers/index.ts";
import type { TreeWorkers } from "./drivers/trees.ts";
import { connectMountIndex, connectProxiedIndex, connectSnapshotIndex } from "./index-client.ts";
import { layerPlugins } from "./layers/plugin-definitions.ts";
import { ProxiedDiffer } from "./layers/proxied-differ.ts";
import { openMountManager } from "./mounts/plugin-definitions.ts";
import { snapshotsGrpcPlugin } from "./plugins.ts";
import { connectSnapshotBackend } from "./proxied/backend-client.ts";
import { ProxiedSnapshotter } from "./proxied/proxied-snapshotter.ts";
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
  const metadata = context.connect("metadata");
  const index = connectSnapshotIndex(metadata, context.resources.use(new RemovalMarkReader(config.state, "snapshot")));
  const trees = context.resources.use(new TreeThreads());
  const opened = await openDrivers(config, trees);
  const snapshotters = new Map<string, Snapshotter>();
  for (const { manifest, outcome } of opened) {
    if ("driver" in outcome) {
      snapshotters.set(manifest.id, new Snapshotter(manifest.id, outcome.driver, index, logTroubles(log)));
    }
  }
  const proxied = context.proxies.filter(({ kind }) => kind === "snapshot");
  logRepairs(
    log,
    await reconcileSnapshots(
      snapshotters,
      proxied.map(({ name }) => name),
      index,
    ),
  );
  const links = new ProxyLinks(context);
  const proxiedSnapshotters = openProxiedSnapshotters(proxied, context, links, metadata);
  const fronts: SnapshotterFronts = new Map<string, SnapshotterFront>([...snapshotters, ...proxiedSnapshotters]);
  const mounts = await openMountManager(context, {
    index: connectMountIndex(metadata),
    roots: [...snapshotters.values()].map(({ driver }) => driver.root),
  });
  const layers = layerPlugins(context, {
    mounts: mounts.manager,
    workers: context.resources.use(new LayerThreads()),
    proxied: new Map(
      context.proxies
        .filter(({ kind }) => kind === "diff")
        .map((plugin) => [plugin.name, new ProxiedDiffer(links.get(plugin))] as const),
    ),
    getSnapshots: ({ snapshotter, ...owner }) => openChainSnapshots(getSnapshotter(fronts, snapshotter), owner),
  });
  return {
    plugins: [
      ...opened.map(driverPlugin),
      { manifest: snapshotsGrpcPlugin, init: () => ({ services: [snapshotsService(fronts)] }) },
      ...layers.plugins,
      ...mounts.plugins,
    ],
    services: [directoriesService(fronts, proxiedSnapshotters), ...layers.services, ...mounts.services],
  };
}

/** The snapshotters that are somebody else's. Nobody is asked anything before a client does. */
function openProxiedSnapshotters(
  plugins: readonly ProxyPlugin[],
  { log }: Pick<ProcessContext, "log">,
  links: ProxyLinks,
  metadata: RpcConnection,
): Map<string, ProxiedSnapshotter> {
  const index = connectProxiedIndex(metadata);
  return new Map(
    plugins.map((plugin) => {
      const backend = connectSnapshotBackend(plugin.name, links.get(plugin));
      const onRemovalFailed = (snapshotter: string, error: unknown): void =>
        log.warn({ snapshotter, err: error }, "a proxied snapshotter did not remove what is released");
      return [plugin.name, new ProxiedSnapshotter(plugin.name, backend, index, onRemovalFailed)];
    }),
  );
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
