import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { wallClock } from "#base/times.ts";
import { formatDuration } from "#config/duration.ts";

import type { PluginDefinition } from "#fleet/plugin.ts";
import type { ProcessContext, ProcessParts } from "#fleet/run.ts";
import { lockFile } from "#sqlite/lock.ts";
import type { ServiceBinding } from "#wire/handler.ts";
import { metadataPlugin, readMetadataConfig, readSchedulerConfig, schedulerPlugin } from "./config.ts";
import { connectEventLog } from "./event-log.ts";
import { connectFileOwners } from "./file-owners.ts";
import { collectGarbage } from "./gc/collect.ts";
import { CollectionScheduler } from "./gc/schedule.ts";
import { OutboxPublisher } from "./outbox-publisher.ts";
import { blobIndexService } from "./rpc/blob-index.ts";
import { containersService } from "./rpc/containers.ts";
import { contentInfoService } from "./rpc/content-info.ts";
import { imagesService } from "./rpc/images.ts";
import { leasesService } from "./rpc/leases.ts";
import { namespacesService } from "./rpc/namespaces.ts";
import { sandboxStoreService } from "./rpc/sandbox-store.ts";
import { snapshotIndexService } from "./rpc/snapshot-index.ts";
import { snapshotInfoService } from "./rpc/snapshot-info.ts";
import { openStores, type Stores } from "./stores.ts";

/** How long to wait for a process before us that is still stopping. */
const lockMsMax = 10_000;

/** What the plugins of this process hand to each other. */
interface Loaded {
  stores?: Stores;
  scheduler?: CollectionScheduler;
}

/** Puts the metadata process together. */
export function compose(context: ProcessContext): ProcessParts {
  const loaded: Loaded = {};
  return {
    plugins: [
      metadataDefinition(context, loaded),
      schedulerDefinition(context, loaded),
      dependent(loaded, "io.containerd.lease.v1", "manager", [metadataType, collectorType]),
      dependent(loaded, "io.containerd.sandbox.store.v1", "local", [metadataType]),
      dependent(loaded, serviceType, "containers-service", [eventType, metadataType]),
      dependent(loaded, serviceType, "images-service", [metadataType, collectorType, warningType]),
      dependent(loaded, serviceType, "namespaces-service", [eventType, metadataType]),
      dependent(loaded, grpcType, "containers", [serviceType], ({ stores }) => containersService(stores.containers)),
      dependent(loaded, grpcType, "images", [serviceType], ({ stores, scheduler }) =>
        imagesService(stores.images, scheduler()),
      ),
      dependent(loaded, grpcType, "namespaces", [serviceType], ({ stores }) =>
        namespacesService(stores.namespaces, [stores.ingests, stores.leases, stores.sandboxes]),
      ),
      dependent(loaded, grpcType, "leases", ["io.containerd.lease.v1"], ({ stores, scheduler }) =>
        leasesService(stores.leases, scheduler()),
      ),
      dependent(loaded, grpcType, "sandboxes", ["io.containerd.sandbox.store.v1"], ({ stores }) =>
        sandboxStoreService(stores.sandboxes),
      ),
    ],
    onReady: () => loaded.scheduler?.start(),
  };
}

const metadataType = "io.containerd.metadata.v1";
const collectorType = "io.containerd.gc.v1";
const eventType = "io.containerd.event.v1";
const warningType = "io.containerd.warning.v1";
const serviceType = "io.containerd.service.v1";
const grpcType = "io.containerd.grpc.v1";

/** The database, and what belongs to no other plugin: the index, and the halves of Content and Snapshots that are records. */
function metadataDefinition(context: ProcessContext, loaded: Loaded): PluginDefinition {
  const { config, log, resources, stopping } = context;
  return {
    ...splitPlugin(metadataPlugin),
    requires: ["io.containerd.content.v1", eventType, "io.containerd.snapshotter.v1"],
    init: async () => {
      const { path, policy, durable } = readMetadataConfig(config);
      resources.use(await lockFile(`${path}.lock`, lockMsMax));
      const stores = openStores({ path, policy, durable, clock: wallClock });
      loaded.stores = stores;
      resources.defer(() => {
        stores.records.database.close();
      });
      log.info({ policy }, "metadata content store policy set");
      const publisher = new OutboxPublisher(stores.records, connectEventLog(context.connect("events")), (error) =>
        log.warn({ err: error }, "events wait to be published"),
      );
      const published = publisher.run(stopping);
      resources.defer(() => published);
      return {
        exports: { policy, path },
        services: [
          blobIndexService(stores.records, stores),
          snapshotIndexService(stores.snapshots, stores.snapshotters),
          contentInfoService(stores.blobs),
          snapshotInfoService(stores.snapshots, stores.snapshotters),
        ],
      };
    },
  };
}

function schedulerDefinition(context: ProcessContext, loaded: Loaded): PluginDefinition {
  const { config, log, resources } = context;
  return {
    ...splitPlugin(schedulerPlugin),
    requires: [metadataType],
    init: () => {
      const stores = requireLoaded(loaded.stores, metadataType);
      const schedule = readSchedulerConfig(config);
      const owners = connectFileOwners({
        content: context.connect("content"),
        snapshots: context.connect("snapshots"),
        signal: context.stopping,
      });
      const onFilesLeft = (error: unknown): void => log.warn({ err: error }, "released files could not be removed");
      const run = async (): Promise<{ readonly busyMs: number; readonly unfinished: boolean }> => {
        const outcome = await collectGarbage({
          records: stores.records,
          releases: stores.releases,
          stores,
          owners,
          onFilesLeft,
        });
        log.debug({ durMs: outcome.busyMs, removed: outcome.removedRecords }, "garbage collected");
        return outcome;
      };
      const scheduler = new CollectionScheduler(schedule, run, (error) =>
        log.error({ err: error }, "garbage collection failed"),
      );
      loaded.scheduler = resources.use(scheduler);
      stores.records.onMutation((deletions) => scheduler.noteMutation(deletions));
      return {
        exports: {
          PauseThreshold: String(schedule.pauseThreshold),
          DeletionThreshold: String(schedule.deletionThreshold),
          MutationThreshold: String(schedule.mutationThreshold),
          ScheduleDelay: formatDuration(schedule.scheduleDelayMs),
        },
      };
    },
  };
}

/** A plugin that fails when what it stands on failed, as containerd's do, and may serve something. */
function dependent(
  loaded: Loaded,
  type: string,
  id: string,
  requires: readonly string[],
  serve?: (parts: { readonly stores: Stores; readonly scheduler: () => CollectionScheduler }) => ServiceBinding,
): PluginDefinition {
  return {
    type,
    id,
    requires,
    init: () => {
      const stores = requireLoaded(loaded.stores, metadataType);
      const scheduler = (): CollectionScheduler => requireLoaded(loaded.scheduler, collectorType);
      if (requires.includes(collectorType)) {
        scheduler();
      }
      return serve === undefined ? undefined : { services: [serve({ stores, scheduler })] };
    },
  };
}

/** @source containerd/plugin v1.0 context.go `GetSingle` */
function requireLoaded<T>(part: T | undefined, type: string): T {
  if (part === undefined) {
    throw new FlotillaError(ErrorKind.NotFound, `no plugins registered for ${type}: plugin: not found`);
  }
  return part;
}

function splitPlugin(uri: string): { readonly type: string; readonly id: string } {
  const dot = uri.lastIndexOf(".");
  return { type: uri.slice(0, dot), id: uri.slice(dot + 1) };
}
