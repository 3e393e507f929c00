import { SnapshotDirectories } from "#gen/flotilla/snapshots/v1/directories_pb.ts";
import { bindService, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import type { SnapshotterFronts } from "../domain/front.ts";
import { getSnapshotter } from "../domain/snapshotter.ts";
import type { ProxiedSnapshotter } from "../proxied/proxied-snapshotter.ts";

/** The private service by which the collector has directories deleted, and proxied snapshotters are told of labels. */
export function directoriesService(
  snapshotters: SnapshotterFronts,
  proxied: ReadonlyMap<string, ProxiedSnapshotter>,
): ServiceBinding {
  return bindService(SnapshotDirectories, {
    removeSnapshots: async ({ snapshotter, ids, backendNames }) => {
      const released = ids.map((id, index) => ({ id, backendName: backendNames[index] ?? "" }));
      return { removedIds: [...(await getSnapshotter(snapshotters, snapshotter).removeReleased(released))] };
    },
    updateLabels: async ({ snapshotter, namespace, backendName, labels, paths }) => {
      await proxied.get(snapshotter)?.updateLabels({ namespace, backendName, labels, paths });
      return {};
    },
  } satisfies Handlers<typeof SnapshotDirectories>);
}
