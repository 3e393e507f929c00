import type { Clock } from "#base/times.ts";
import { migrate } from "#sqlite/migrate.ts";
import { openDatabase } from "#sqlite/open.ts";
import { BlobStore } from "./store/blobs.ts";
import { ContainerStore } from "./store/containers.ts";
import { ImageStore } from "./store/images.ts";
import { IngestStore, type SharingPolicy } from "./store/ingests.ts";
import { LeaseStore } from "./store/leases.ts";
import { MountStore } from "./store/mounts.ts";
import { NamespaceStore } from "./store/namespaces.ts";
import { ProxiedSnapshotStore } from "./store/proxied-snapshots.ts";
import { Records } from "./store/records.ts";
import { ReleaseStore } from "./store/releases.ts";
import { SandboxStore } from "./store/sandboxes.ts";
import { migrations } from "./store/schema.ts";
import { SequenceStore } from "./store/sequences.ts";
import { SnapshotStore } from "./store/snapshots.ts";
import { SnapshotterStore } from "./store/snapshotters.ts";

/** All that stands in one database. */
export interface Stores {
  readonly records: Records;
  readonly namespaces: NamespaceStore;
  readonly containers: ContainerStore;
  readonly images: ImageStore;
  readonly leases: LeaseStore;
  readonly mounts: MountStore;
  readonly sandboxes: SandboxStore;
  readonly blobs: BlobStore;
  readonly ingests: IngestStore;
  readonly snapshots: SnapshotStore;
  readonly snapshotters: SnapshotterStore;
  readonly proxiedSnapshots: ProxiedSnapshotStore;
  readonly releases: ReleaseStore;
}

/**
 * Opens the database and brings its schema up to date. The caller closes `records.database`.
 *
 * @throws {@link FlotillaError} `failed_precondition` when the file is something else or from a newer release.
 */
export function openStores(options: {
  readonly path: string;
  readonly policy: SharingPolicy;
  readonly durable: boolean;
  readonly clock: Clock;
  /** Most events that wait to be published; see `Outbox`. */
  readonly waitingEventsMax?: number;
  /** See {@link BlobStore}. */
  readonly onBlobsRemoved?: () => void;
  /** See {@link ContainerStore}. */
  readonly onContainersRemoved?: () => void;
  /** See {@link SnapshotStore}. */
  readonly onSnapshotsChanged?: () => void;
}): Stores {
  const database = openDatabase(options.path, { durable: options.durable });
  try {
    migrate(database, migrations);
  } catch (error) {
    database.close();
    throw error;
  }
  const records = new Records(database, options.clock, options.waitingEventsMax);
  const releases = new ReleaseStore(database);
  const sequences = new SequenceStore(database);
  const namespaces = new NamespaceStore(records);
  const leases = new LeaseStore(records, namespaces);
  const blobs = new BlobStore(records, { namespaces, leases, releases }, options.onBlobsRemoved);
  const snapshots = new SnapshotStore(records, { namespaces, leases, releases, sequences }, options.onSnapshotsChanged);
  return {
    records,
    namespaces,
    containers: new ContainerStore(records, namespaces, options.onContainersRemoved),
    images: new ImageStore(records, namespaces, leases),
    leases,
    mounts: new MountStore(records, { leases, releases, sequences }),
    sandboxes: new SandboxStore(records, namespaces),
    blobs,
    ingests: new IngestStore(records, { namespaces, leases, releases, blobs, sequences }, options.policy),
    snapshots,
    snapshotters: new SnapshotterStore(records, releases, snapshots),
    proxiedSnapshots: new ProxiedSnapshotStore(records, { snapshots, releases, sequences }),
    releases,
  };
}
