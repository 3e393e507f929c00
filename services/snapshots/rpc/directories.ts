import { SnapshotDirectories } from "#gen/flotilla/snapshots/v1/directories_pb.ts";
import { bindService, type ServiceBinding } from "#wire/handler.ts";
import { getSnapshotter, type Snapshotter } from "../domain/snapshotter.ts";

/** The private service by which the collector has directories deleted. */
export function directoriesService(snapshotters: ReadonlyMap<string, Snapshotter>): ServiceBinding {
  return bindService(SnapshotDirectories, {
    removeSnapshots: async ({ snapshotter, ids }) => ({
      removedIds: [...(await getSnapshotter(snapshotters, snapshotter).removeDirectories(ids))],
    }),
  });
}
