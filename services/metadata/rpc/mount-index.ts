import { MountIndex } from "#gen/flotilla/index/v1/index_pb.ts";
import { bindService, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import type { MountStore } from "../store/mounts.ts";

/** Answers the snapshots process about activations of mounts. The contract stands in index.proto. */
export function mountIndexService(mounts: MountStore): ServiceBinding {
  return bindService(MountIndex, {
    addMount: async (request) => ({ id: await mounts.add(request) }),
    removeMount: async ({ namespace, name }) => ({ id: await mounts.remove(namespace, name) }),
    reconcileMounts: async ({ ids }) => ({ orphanIds: await mounts.reconcile(ids) }),
  } satisfies Handlers<typeof MountIndex>);
}
