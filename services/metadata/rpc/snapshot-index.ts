import type { MessageInitShape } from "@bufbuild/protobuf";
import { ErrorKind, failure } from "#base/errors.ts";
import { Kind } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { SnapshotIndex, SnapshotKind, type SnapshotLocationSchema } from "#gen/flotilla/index/v1/index_pb.ts";
import { bindService, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import type { ProxiedSnapshotStore } from "../store/proxied-snapshots.ts";
import type { SnapshotLocation } from "../store/snapshot-records.ts";
import type { SnapshotStore } from "../store/snapshots.ts";
import type { SnapshotterStore } from "../store/snapshotters.ts";

/** Answers the snapshots process about the tree of snapshots. The contract stands in index.proto. */
export function snapshotIndexService(
  snapshots: SnapshotStore,
  snapshotters: SnapshotterStore,
  proxied: ProxiedSnapshotStore,
): ServiceBinding {
  return bindService(SnapshotIndex, {
    prepareSnapshot: async (request) => ({
      location: showLocation(await snapshots.prepare({ ...request, kind: readNewKind(request.kind) })),
    }),
    resolveSnapshot: (name) => {
      const { location, usage } = snapshots.resolve(name);
      const shown = showLocation(location);
      return usage === undefined
        ? { location: shown }
        : { location: shown, usage: { size: usage.sizeBytes, inodes: usage.inodes } };
    },
    commitSnapshot: async ({ usage, ...request }) => {
      const measured = usage === undefined ? undefined : { sizeBytes: usage.size, inodes: usage.inodes };
      await snapshots.commit({ ...request, usage: measured });
      return {};
    },
    reconcileSnapshots: async (request) => {
      const repairs = await snapshotters.reconcile(request.snapshotters);
      return {
        repairs: repairs.map(({ snapshotter, orphanIds, missing }) => ({
          snapshotter,
          orphanIds: [...orphanIds],
          missing: missing.map(showLocation),
        })),
      };
    },
    reserveSnapshot: (request) => proxied.reserve({ ...request, kind: readNewKind(request.kind) }),
    recordSnapshot: async (request) => {
      await proxied.record({ ...request, kind: readKind(request.kind) });
      return {};
    },
    confirmReleased: ({ snapshotter, ids }) => ({ ids: proxied.confirmReleased(snapshotter, ids) }),
  } satisfies Handlers<typeof SnapshotIndex>);
}

function readNewKind(kind: SnapshotKind): typeof Kind.ACTIVE | typeof Kind.VIEW {
  switch (kind) {
    case SnapshotKind.ACTIVE:
      return Kind.ACTIVE;
    case SnapshotKind.VIEW:
      return Kind.VIEW;
    default:
      throw failure(ErrorKind.InvalidArgument, "only active snapshots and views can be prepared");
  }
}

function readKind(kind: SnapshotKind): Kind {
  return kind === SnapshotKind.COMMITTED ? Kind.COMMITTED : readNewKind(kind);
}

const shownKinds: Readonly<Record<Kind, SnapshotKind>> = {
  [Kind.UNKNOWN]: SnapshotKind.UNSPECIFIED,
  [Kind.VIEW]: SnapshotKind.VIEW,
  [Kind.ACTIVE]: SnapshotKind.ACTIVE,
  [Kind.COMMITTED]: SnapshotKind.COMMITTED,
};

function showLocation({
  id,
  parentIds,
  kind,
  labels,
  backendName,
  backendParent,
}: SnapshotLocation): MessageInitShape<typeof SnapshotLocationSchema> {
  return {
    id,
    parentIds: [...parentIds],
    kind: shownKinds[kind] ?? SnapshotKind.UNSPECIFIED,
    labels,
    backendName,
    backendParent,
  };
}
