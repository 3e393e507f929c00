import { fromBinary } from "@bufbuild/protobuf";
import { formatDuration } from "#base/duration.ts";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { nsPerSecond, wallClock } from "#base/times.ts";
import { timeoutMs } from "#config/config.ts";
import type { PluginManifest } from "#fleet/manifest.ts";
import { type AppendedEvent, connectEventLog } from "#fleet/peers/event-log.ts";
import type { PluginDefinition } from "#fleet/plugin.ts";
import { RemovalMarkWriter } from "#fleet/removal-mark.ts";
import type { ProcessContext, ProcessParts } from "#fleet/run.ts";
import { EnvelopeSchema } from "#gen/containerd/types/event_pb.ts";
import { lockFile } from "#sqlite/lock.ts";
import type { ServiceBinding } from "#wire/handler.ts";
import { readMetadataConfig, readSchedulerConfig } from "./config.ts";
import { connectFileOwners, connectLabelListener } from "./file-owners.ts";
import { collectGarbage } from "./gc/collect.ts";
import { CollectionScheduler } from "./gc/schedule.ts";
import { outboxFamilies } from "./outbox-families.ts";
import { OutboxPublisher, type OutgoingEvent, type Publish } from "./outbox-publisher.ts";
import {
  containersGrpcPlugin,
  containersServicePlugin,
  imagesGrpcPlugin,
  imagesServicePlugin,
  leasePlugin,
  leasesGrpcPlugin,
  metadataPlugin,
  namespacesGrpcPlugin,
  namespacesServicePlugin,
  sandboxesGrpcPlugin,
  sandboxStorePlugin,
  schedulerPlugin,
} from "./plugins.ts";
import { blobIndexService } from "./rpc/blob-index.ts";
import { containersService } from "./rpc/containers.ts";
import { contentInfoService } from "./rpc/content-info.ts";
import { imagesService } from "./rpc/images.ts";
import { keepCalls } from "./rpc/kept.ts";
import { leasesService } from "./rpc/leases.ts";
import { mountIndexService } from "./rpc/mount-index.ts";
import { namespacesService } from "./rpc/namespaces.ts";
import { referencesService } from "./rpc/references.ts";
import { sandboxStoreService } from "./rpc/sandbox-store.ts";
import { snapshotIndexService } from "./rpc/snapshot-index.ts";
import { snapshotInfoService } from "./rpc/snapshot-info.ts";
import { waitingEventsMax } from "./store/outbox.ts";
import { openStores, type Stores } from "./stores.ts";

/** How long to wait for a process before us that is still stopping, unless `[timeouts]` says. Another daemon was refused before. */
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
      dependent(loaded, leasePlugin),
      dependent(loaded, sandboxStorePlugin),
      dependent(loaded, containersServicePlugin),
      dependent(loaded, imagesServicePlugin),
      dependent(loaded, namespacesServicePlugin),
      dependent(loaded, containersGrpcPlugin, ({ stores }) => containersService(stores.containers)),
      dependent(loaded, imagesGrpcPlugin, ({ stores, scheduler }) => imagesService(stores.images, scheduler())),
      dependent(loaded, namespacesGrpcPlugin, ({ stores }) =>
        namespacesService(stores.namespaces, [stores.ingests, stores.leases, stores.sandboxes, stores.mounts]),
      ),
      dependent(loaded, leasesGrpcPlugin, ({ stores, scheduler }) => leasesService(stores.leases, scheduler())),
      dependent(loaded, sandboxesGrpcPlugin, ({ stores }) => sandboxStoreService(stores.sandboxes)),
    ],
    onReady: () => loaded.scheduler?.start(),
    measure: () => [
      ...(loaded.scheduler?.families() ?? []),
      ...(loaded.stores === undefined ? [] : outboxFamilies(loaded.stores.records)),
    ],
    isWell: () => loaded.stores?.records.outbox.isFull !== true,
  };
}

/** The database, and what belongs to no other plugin: the index, and the halves of Content and Snapshots that are records. */
function metadataDefinition(context: ProcessContext, loaded: Loaded): PluginDefinition {
  const { config, log, resources, stopping } = context;
  return {
    manifest: metadataPlugin,
    init: async () => {
      const { path, policy, durable } = readMetadataConfig(config);
      resources.use(await lockFile(`${path}.lock`, timeoutMs(config, "io.containerd.timeout.bolt.open") || lockMsMax));
      const blobMark = resources.use(new RemovalMarkWriter(config.state, "blob"));
      const containerMark = resources.use(new RemovalMarkWriter(config.state, "container"));
      const snapshotMark = resources.use(new RemovalMarkWriter(config.state, "snapshot"));
      const stores = openStores({
        path,
        policy,
        durable,
        clock: wallClock,
        onBlobsRemoved: () => blobMark.advance(),
        onContainersRemoved: () => containerMark.advance(),
        onSnapshotsChanged: () => snapshotMark.advance(),
      });
      loaded.stores = stores;
      resources.defer(() => {
        stores.records.database.close();
      });
      log.info({ policy }, "metadata content store policy set");
      const append = connectEventLog(context.connect("events"));
      const publish: Publish = (events, signal) => append(events.map(recordOf), signal);
      const publisher = new OutboxPublisher(stores.records, publish, {
        onFailure: (error) => log.warn({ err: error }, "events could not be published"),
        onRefused: (error) => log.error({ err: error }, "an event is too large to be published and was left out"),
        onWaiting: ({ count, oldestNs = wallClock() }) => {
          const ageS = Number((wallClock() - oldestNs) / nsPerSecond);
          log.warn({ count, ageS, countMax: waitingEventsMax }, "events wait to be published");
        },
      });
      const published = publisher.run(stopping);
      resources.defer(() => published);
      return {
        exports: { policy, path },
        services: [
          blobIndexService(stores.records, stores),
          snapshotIndexService(stores.snapshots, stores.snapshotters, stores.proxiedSnapshots),
          mountIndexService(stores.mounts),
          referencesService(stores.records),
          contentInfoService(stores.blobs),
          snapshotInfoService(
            stores.snapshots,
            stores.snapshotters,
            connectLabelListener(context.connect("snapshots")),
          ),
        ].map((service) => keepCalls(stores.records.calls, service)),
      };
    },
  };
}

function schedulerDefinition(context: ProcessContext, loaded: Loaded): PluginDefinition {
  const { config, log, resources } = context;
  return {
    manifest: schedulerPlugin,
    init: () => {
      const stores = requireLoaded(loaded.stores, metadataPlugin.type);
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
      context.onReload((next) => {
        const changed = readSchedulerConfig(next);
        return () => scheduler.configure(changed);
      });
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
  manifest: PluginManifest,
  serve?: (parts: { readonly stores: Stores; readonly scheduler: () => CollectionScheduler }) => ServiceBinding,
): PluginDefinition {
  return {
    manifest,
    init: () => {
      const stores = requireLoaded(loaded.stores, metadataPlugin.type);
      const scheduler = (): CollectionScheduler => requireLoaded(loaded.scheduler, schedulerPlugin.type);
      if (manifest.requires?.includes(schedulerPlugin.type) === true) {
        scheduler();
      }
      return serve === undefined
        ? undefined
        : { services: [keepCalls(stores.records.calls, serve({ stores, scheduler }))] };
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

function recordOf({ messageId, envelope }: OutgoingEvent): AppendedEvent {
  return { messageId, envelope: fromBinary(EnvelopeSchema, envelope) };
}
