import type { MessageInitShape } from "@bufbuild/protobuf";
import { ErrorKind, failure } from "#base/errors.ts";
import {
  type PrepareSnapshotRequest,
  Snapshots,
  type ViewSnapshotRequest,
} from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import type { MountSchema } from "#gen/containerd/types/mount_pb.ts";
import type { Mount } from "#linux/mount.ts";
import { bindService, type Call, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import { leaseOf, requireNamespace } from "#wire/headers.ts";
import type { SnapshotterFronts } from "../domain/front.ts";
import { getSnapshotter } from "../domain/snapshotter.ts";

/** The part of the public Snapshots service that needs directories; the rest is answered from records alone. */
export function snapshotsService(snapshotters: SnapshotterFronts): ServiceBinding {
  const prepare = async (
    { snapshotter: name, key, parent, labels }: PrepareSnapshotRequest | ViewSnapshotRequest,
    call: Call,
    kind: "active" | "view",
  ): Promise<{ mounts: MessageInitShape<typeof MountSchema>[] }> => {
    const snapshotter = getSnapshotter(snapshotters, name);
    const owner = { namespace: requireNamespace(call), lease: leaseOf(call) };
    const mounts = await snapshotter.prepare(
      { ...owner, snapshotter: name, key, parent, labels, kind, call: call.id },
      call.signal,
    );
    return { mounts: mounts.map(writeMount) };
  };
  const handlers = {
    prepare: (request, call) => prepare(request, call, "active"),
    view: (request, call) => prepare(request, call, "view"),
    mounts: async ({ snapshotter: name, key }, call) => {
      const snapshotter = getSnapshotter(snapshotters, name);
      const mounts = await snapshotter.mounts(
        { namespace: requireNamespace(call), snapshotter: name, key },
        call.signal,
      );
      return { mounts: mounts.map(writeMount) };
    },
    commit: async ({ snapshotter: name, name: committed, key, labels, parent }, call) => {
      const snapshotter = getSnapshotter(snapshotters, name);
      const owner = { namespace: requireNamespace(call), lease: leaseOf(call) };
      await snapshotter.commit({ ...owner, snapshotter: name, key, name: committed, labels, parent, call: call.id });
      return {};
    },
    usage: async ({ snapshotter: name, key }, call) => {
      const snapshotter = getSnapshotter(snapshotters, name);
      const usage = await snapshotter.usage({ namespace: requireNamespace(call), snapshotter: name, key }, call.signal);
      return { size: usage.sizeBytes, inodes: usage.inodes };
    },
    cleanup: ({ snapshotter: name }) => {
      getSnapshotter(snapshotters, name);
      // The namespaced front of containerd does not pass this on, whatever the snapshotter can do; the collector frees space.
      throw failure(ErrorKind.NotImplemented, "snapshotter does not implement Cleanup method");
    },
  } satisfies Pick<Handlers<typeof Snapshots>, "prepare" | "view" | "mounts" | "commit" | "usage" | "cleanup">;
  return bindService(Snapshots, handlers);
}

function writeMount({ type, source, target = "", options }: Mount): MessageInitShape<typeof MountSchema> {
  return { type, source, target, options: [...options] };
}
