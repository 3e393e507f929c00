import { createClient } from "@connectrpc/connect";
import { Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import type { Mount } from "#gen/containerd/types/mount_pb.ts";
import type { RpcConnection } from "#wire/client.ts";
import { clientHeaders } from "#wire/headers.ts";

/** How long the snapshots process may take. */
const callMsMax = 30_000;

/** The mounts of a container's root file system, by its snapshot; none for a container without one. */
export type RootMounts = (
  namespace: string,
  container: { readonly snapshotter: string; readonly snapshotKey: string },
) => Promise<Mount[]>;

/** Asks the snapshots process. */
export function connectRootMounts(connection: RpcConnection): RootMounts {
  const snapshots = createClient(Snapshots, connection.transport);
  return async (namespace, { snapshotter, snapshotKey: key }) => {
    if (key === "") {
      return [];
    }
    const options = { headers: clientHeaders(namespace), timeoutMs: callMsMax };
    return (await snapshots.mounts({ snapshotter, key }, options)).mounts;
  };
}
