import { createClient } from "@connectrpc/connect";
import { Blobs } from "#gen/flotilla/blobs/v1/blobs_pb.ts";
import { SnapshotDirectories } from "#gen/flotilla/snapshots/v1/directories_pb.ts";
import type { RpcConnection } from "#wire/client.ts";
import type { FileOwners } from "./gc/files.ts";

/** How long a call may take that removes files. What is not done then is asked for again by the next collection. */
const removalMsMax = 120_000;

/** The processes that keep files. @param peers.signal - Ends the calls when this process stops. */
export function connectFileOwners(peers: {
  readonly content: RpcConnection;
  readonly snapshots: RpcConnection;
  readonly signal: AbortSignal;
}): FileOwners {
  const { signal } = peers;
  const blobs = createClient(Blobs, peers.content.transport);
  const directories = createClient(SnapshotDirectories, peers.snapshots.transport);
  return {
    async removeBlobs(digests, backendRefs) {
      const request = { digests: [...digests], backendRefs: [...backendRefs] };
      return (await blobs.removeBlobs(request, { signal, timeoutMs: removalMsMax })).removedDigests;
    },
    async removeSnapshots(snapshotter, ids) {
      const request = { snapshotter, ids: [...ids] };
      return (await directories.removeSnapshots(request, { signal, timeoutMs: removalMsMax })).removedIds;
    },
  };
}
