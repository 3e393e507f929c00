import { ErrorKind, isFailure } from "#base/errors.ts";
import type { Mount } from "#gen/containerd/types/mount_pb.ts";
import { type CriPeers, criCall } from "../peers.ts";
import { withLease } from "./image-lease.ts";
import type { ImageStore } from "./image-store.ts";
import type { LocalImage } from "./local-image.ts";
import { unpackImage } from "./unpack-image.ts";

/** What a new root file system is made of. */
export interface RootRequest {
  /** Key of the snapshot, which is the container's id. */
  readonly key: string;
  readonly image: LocalImage;
  readonly snapshotter: string;
  /** Holds it until a record does: that of its pod. */
  readonly lease: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** Whether nobody may write to it. */
  readonly isView?: boolean;
  readonly signal: AbortSignal;
}

/**
 * Makes the root file system of a container. An image that is not unpacked for this snapshotter is unpacked now.
 *
 * @returns How to mount it.
 * @throws {@link FlotillaError} `already_exists` for a key that is taken; `not_found` when the image's blobs are gone.
 * @source containerd v2.3.4 internal/cri/opts/container.go `WithNewSnapshot`
 */
export async function prepareRoot(
  parts: { readonly peers: CriPeers; readonly store: ImageStore },
  request: RootRequest,
): Promise<Mount[]> {
  try {
    return await makeSnapshot(parts.peers, request);
  } catch (error) {
    if (!isFailure(error, ErrorKind.NotFound)) {
      throw error;
    }
  }
  const { snapshotter, signal } = request;
  return await withLease(parts.peers, signal, async (lease) => {
    await unpackImage(parts.peers, await parts.store.read(request.image, signal), { snapshotter, lease, signal });
    return await makeSnapshot(parts.peers, request);
  });
}

async function makeSnapshot(
  { snapshots }: CriPeers,
  { key, image, snapshotter, lease, labels, isView, signal }: RootRequest,
): Promise<Mount[]> {
  const snapshot = { snapshotter, key, parent: image.chainId, labels: { ...labels } };
  const { mounts } = await (isView === true
    ? snapshots.view(snapshot, criCall({ lease, signal }))
    : snapshots.prepare(snapshot, criCall({ lease, signal })));
  return mounts;
}

/** Removes a root file system. One that is not there is no error. */
export async function removeRoot(
  { snapshotRecords }: CriPeers,
  { key, snapshotter }: Pick<RootRequest, "key" | "snapshotter">,
): Promise<void> {
  try {
    await snapshotRecords.remove({ key, snapshotter }, criCall());
  } catch (error) {
    if (!isFailure(error, ErrorKind.NotFound)) {
      throw error;
    }
  }
}

/**
 * Labels by which a snapshotter gives files to the users of a pod.
 *
 * @source containerd v2.3.4 client/snapshotter_opts_unix.go `WithRemapperLabels`
 */
export function remapLabels({
  uid,
  gid,
  size,
}: {
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
}): Record<string, string> {
  return {
    "containerd.io/snapshot/uidmapping": `0:${uid}:${size}`,
    "containerd.io/snapshot/gidmapping": `0:${gid}:${size}`,
  };
}
