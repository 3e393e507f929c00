import { createClient } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { snapshotRefLabel } from "#containerd/labels.ts";
import type { ProxyLink } from "#fleet/proxies/proxy-link.ts";
import { type Info, Kind, Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import type { Mount as MountMessage } from "#gen/containerd/types/mount_pb.ts";
import type { Mount } from "#linux/mount.ts";
import { clientHeaders } from "#wire/headers.ts";
import type { SnapshotKind } from "../drivers/driver.ts";
import type { BackendSnapshot, SnapshotBackend } from "./backend.ts";

/**
 * Speaks to a snapshotter behind a socket.
 *
 * @param snapshotter - The name by which clients know it, which the other side is told.
 * @source containerd v2.3.4 core/snapshots/proxy/proxy.go
 */
export function connectSnapshotBackend(snapshotter: string, link: ProxyLink): SnapshotBackend {
  const client = createClient(Snapshots, link.transport);
  const of = (namespace: string, signal?: AbortSignal): { headers: Record<string, string>; signal?: AbortSignal } => ({
    headers: clientHeaders(namespace),
    ...(signal === undefined ? {} : { signal }),
  });
  return {
    get isStuck() {
      return link.isStuck;
    },
    async prepare(namespace, { kind, key, parent, labels }, signal) {
      const request = { snapshotter, key, parent, labels: { ...labels } };
      const { mounts } =
        kind === "view"
          ? await client.view(request, of(namespace, signal))
          : await client.prepare(request, of(namespace, signal));
      return mounts.map(readMount);
    },
    async mounts(namespace, key, signal) {
      return (await client.mounts({ snapshotter, key }, of(namespace, signal))).mounts.map(readMount);
    },
    async commit(namespace, { name, key, parent, labels }) {
      await client.commit({ snapshotter, name, key, parent, labels: { ...labels } }, of(namespace));
    },
    async usage(namespace, key, signal) {
      const { size, inodes } = await client.usage({ snapshotter, key }, of(namespace, signal));
      return { sizeBytes: size, inodes };
    },
    async stat(namespace, key) {
      return readInfo((await client.stat({ snapshotter, key }, of(namespace))).info, key);
    },
    async findTarget(namespace, target, parent) {
      const filters = [`labels.${quote(snapshotRefLabel)}==${target},parent==${quote(parent)}`];
      for await (const { info } of client.list({ snapshotter, filters }, of(namespace))) {
        // Not every snapshotter obeys filters.
        const found = info
          .map((each) => readInfo(each, each.name))
          .find(
            (each) => each.kind === "committed" && each.labels[snapshotRefLabel] === target && each.parent === parent,
          );
        if (found !== undefined) {
          return found;
        }
      }
      return undefined;
    },
    async update(namespace, key, labels, paths) {
      const info = { name: key, labels: { ...labels } };
      await client.update({ snapshotter, info, updateMask: { paths: [...paths] } }, of(namespace));
    },
    async remove(namespace, key) {
      await client.remove({ snapshotter, key }, of(namespace));
    },
    async cleanup(namespace) {
      try {
        await client.cleanup({ snapshotter }, of(namespace));
      } catch (error) {
        if (!isFailure(error, ErrorKind.NotImplemented)) {
          throw error;
        }
      }
    },
  };
}

function readMount({ type, source, target, options }: MountMessage): Mount {
  return { type, source, target, options };
}

const kinds: Readonly<Record<Kind, SnapshotKind | undefined>> = {
  [Kind.UNKNOWN]: undefined,
  [Kind.VIEW]: "view",
  [Kind.ACTIVE]: "active",
  [Kind.COMMITTED]: "committed",
};

function readInfo(info: Info | undefined, name: string): BackendSnapshot {
  return {
    name: info?.name ?? name,
    parent: info?.parent ?? "",
    kind: info === undefined ? undefined : kinds[info.kind],
    labels: info?.labels ?? {},
  };
}
