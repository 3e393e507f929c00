import { createClient } from "@connectrpc/connect";
import { ErrorKind, failure } from "#base/errors.ts";
import { Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import {
  MountIndex as MountIndexService,
  SnapshotKind as RecordedKind,
  type SnapshotLocation as RecordedLocation,
  type SnapshotUsage as RecordedUsage,
  SnapshotIndex as SnapshotIndexService,
} from "#gen/flotilla/index/v1/index_pb.ts";
import { headersOfPart } from "#wire/call-id.ts";
import type { RpcConnection } from "#wire/client.ts";
import { clientHeaders } from "#wire/headers.ts";
import type { ProxiedSnapshotIndex, SnapshotIndex, SnapshotName } from "./domain/ports.ts";
import type { SnapshotKind, SnapshotLocation, SnapshotUsage } from "./drivers/driver.ts";
import type { MountIndex } from "./mounts/ports.ts";

/** A number that changes before anybody is told that a record of a snapshot has changed or gone; undefined when that cannot be known. */
export interface SnapshotChanges {
  read(): bigint | undefined;
}

/** New snapshots that are remembered; most are mounted at once. */
const rememberedMax = 256;

/**
 * The index that the metadata process keeps. Where a new snapshot lies is remembered until any record of a snapshot changes or goes, since who
 * makes one asks for its mounts next.
 *
 * @param changes - Nothing is remembered unless given.
 */
export function connectSnapshotIndex(
  connection: Pick<RpcConnection, "transport">,
  changes: SnapshotChanges = { read: () => undefined },
): SnapshotIndex {
  const index = createClient(SnapshotIndexService, connection.transport);
  const records = createClient(Snapshots, connection.transport);
  const remembered = new Map<string, { readonly location: SnapshotLocation; readonly mark: bigint }>();
  const remember = (key: string, location: SnapshotLocation, mark: bigint): void => {
    remembered.set(key, { location, mark });
    const [oldest] = remembered.size > rememberedMax ? remembered.keys() : [];
    if (oldest !== undefined) {
      remembered.delete(oldest);
    }
  };
  return {
    async prepare({ kind, labels, call, ...snapshot }) {
      // Read before: a change after the answer is then seen by whoever looks next.
      const mark = changes.read();
      const request = { ...snapshot, labels: { ...labels }, kind: writeKind(kind) };
      const answer = await index.prepareSnapshot(request, { headers: headersOfPart(call, "prepare") });
      const location = readLocation(answer.location);
      // What a call that is made again has made the first time may have gone since.
      if (mark !== undefined && call?.repeatedAfterMs === undefined) {
        remember(nameOf(snapshot), location, mark);
      }
      return location;
    },
    async resolve({ namespace, snapshotter, key }) {
      const known = remembered.get(nameOf({ namespace, snapshotter, key }));
      if (known !== undefined && known.mark === changes.read()) {
        return { location: known.location, usage: undefined };
      }
      remembered.delete(nameOf({ namespace, snapshotter, key }));
      const { location, usage } = await index.resolveSnapshot({ namespace, snapshotter, key });
      return { location: readLocation(location), usage: usage === undefined ? undefined : readUsage(usage) };
    },
    async commit({ labels, call, ...commit }, usage) {
      const measured = usage === undefined ? {} : { usage: { size: usage.sizeBytes, inodes: usage.inodes } };
      await index.commitSnapshot(
        { ...commit, labels: { ...labels }, ...measured },
        { headers: headersOfPart(call, "commit") },
      );
    },
    async remove({ namespace, snapshotter, key }) {
      await records.remove({ snapshotter, key }, { headers: clientHeaders(namespace) });
    },
    async reconcile(loaded) {
      const snapshotters = loaded.map(({ name, ids, proxied }) => ({ name, ids: [...ids], proxied }));
      const { repairs } = await index.reconcileSnapshots({ snapshotters });
      return repairs.map(({ snapshotter, orphanIds, missing }) => ({
        snapshotter,
        orphanIds,
        missing: missing.map(readLocation),
      }));
    },
  };
}

function nameOf({ namespace, snapshotter, key }: SnapshotName): string {
  return `${namespace}/${snapshotter}/${key}`;
}

/** The part of the index that is for snapshotters of others. */
export function connectProxiedIndex(connection: RpcConnection): ProxiedSnapshotIndex {
  const index = createClient(SnapshotIndexService, connection.transport);
  const records = createClient(Snapshots, connection.transport);
  return {
    async reserve({ kind, labels, call, ...snapshot }) {
      const request = { ...snapshot, labels: { ...labels }, kind: writeKind(kind) };
      const { id, backendName, backendParent } = await index.reserveSnapshot(request, {
        headers: headersOfPart(call, "reserve"),
      });
      return { id, backendName, backendParent };
    },
    async record({ kind, labels, call, ...snapshot }, reservation) {
      const request = { ...snapshot, ...reservation, labels: { ...labels }, kind: writeKind(kind) };
      await index.recordSnapshot(request, { headers: headersOfPart(call, "record") });
    },
    async find({ namespace, snapshotter, key }) {
      const { location } = await index.resolveSnapshot({ namespace, snapshotter, key });
      const { id, kind } = readLocation(location);
      return { id, kind, backendName: location?.backendName ?? "", backendParent: location?.backendParent ?? "" };
    },
    async commit({ labels, call, ...commit }, backendName) {
      await index.commitSnapshot(
        { ...commit, labels: { ...labels }, backendName },
        { headers: headersOfPart(call, "commit") },
      );
    },
    async remove({ namespace, snapshotter, key }) {
      await records.remove({ snapshotter, key }, { headers: clientHeaders(namespace) });
    },
    confirmReleased: async (snapshotter, ids) => (await index.confirmReleased({ snapshotter, ids: [...ids] })).ids,
  };
}

const writtenKinds: Readonly<Record<SnapshotKind, RecordedKind>> = {
  view: RecordedKind.VIEW,
  active: RecordedKind.ACTIVE,
  committed: RecordedKind.COMMITTED,
};

function writeKind(kind: SnapshotKind): RecordedKind {
  return writtenKinds[kind];
}

/** The records of activations of mounts. */
export function connectMountIndex(connection: RpcConnection): MountIndex {
  const index = createClient(MountIndexService, connection.transport);
  return {
    add: async ({ namespace, name, lease, labels }) =>
      (await index.addMount({ namespace, name, lease, labels: { ...labels } })).id,
    remove: async (namespace, name, call) =>
      (await index.removeMount({ namespace, name }, { headers: headersOfPart(call, "remove") })).id,
    reconcile: async (ids) => (await index.reconcileMounts({ ids: [...ids] })).orphanIds,
  };
}

function readLocation(location: RecordedLocation | undefined): SnapshotLocation {
  if (location === undefined) {
    throw failure(ErrorKind.Internal, "the index answered without a location");
  }
  const { id, parentIds, labels } = location;
  return { id, parentIds, labels, kind: readKind(location.kind) };
}

function readKind(kind: RecordedKind): SnapshotKind {
  switch (kind) {
    case RecordedKind.VIEW:
      return "view";
    case RecordedKind.ACTIVE:
      return "active";
    case RecordedKind.COMMITTED:
      return "committed";
    default:
      throw failure(ErrorKind.Internal, `the index answered the kind ${kind}`);
  }
}

function readUsage({ size, inodes }: RecordedUsage): SnapshotUsage {
  return { sizeBytes: size, inodes };
}
