import { createClient } from "@connectrpc/connect";
import { Blobs } from "#gen/flotilla/blobs/v1/blobs_pb.ts";
import { Activations } from "#gen/flotilla/mounts/v1/activations_pb.ts";
import { SnapshotDirectories } from "#gen/flotilla/snapshots/v1/directories_pb.ts";
import type { RpcConnection } from "#wire/client.ts";
import type { FileOwners } from "./gc/files.ts";
import type { LabelListener } from "./rpc/snapshot-info.ts";

/** How long a call may take that removes files. What is not done then is asked for again by the next collection. */
const removalMsMax = 120_000;

/** How a proxied snapshotter is told of labels, by way of the process that has it behind it. */
export function connectLabelListener(snapshots: RpcConnection): LabelListener {
  const directories = createClient(SnapshotDirectories, snapshots.transport);
  return async (update) => void (await directories.updateLabels(update));
}

/** The processes that keep files. @param peers.signal - Ends the calls when this process stops. */
export function connectFileOwners(peers: {
  readonly content: RpcConnection;
  readonly snapshots: RpcConnection;
  readonly signal: AbortSignal;
}): FileOwners {
  const { signal } = peers;
  const blobs = createClient(Blobs, peers.content.transport);
  const directories = createClient(SnapshotDirectories, peers.snapshots.transport);
  const activations = createClient(Activations, peers.snapshots.transport);
  return {
    async removeBlobs(digests, backendRefs) {
      const request = { digests: [...digests], backendRefs: [...backendRefs] };
      return (await blobs.removeBlobs(request, { signal, timeoutMs: removalMsMax })).removedDigests;
    },
    async removeSnapshots(snapshotter, ids, backendNames) {
      const request = { snapshotter, ids: [...ids], backendNames: [...backendNames] };
      return (await directories.removeSnapshots(request, { signal, timeoutMs: removalMsMax })).removedIds;
    },
    async removeMounts(ids) {
      return (await activations.removeMounts({ ids: [...ids] }, { signal, timeoutMs: removalMsMax })).removedIds;
    },
  };
}
