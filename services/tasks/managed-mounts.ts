import { lstatSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { needsMountManager } from "#containerd/managed-mounts.ts";
import { Mounts } from "#gen/containerd/services/mounts/v1/mounts_pb.ts";
import type { MountSchema } from "#gen/containerd/types/mount_pb.ts";
import { Activations } from "#gen/flotilla/mounts/v1/activations_pb.ts";
import { unmountRecursive } from "#linux/unmount.ts";
import type { RpcConnection } from "#wire/client.ts";
import { clientHeaders } from "#wire/headers.ts";
import type { Bundle } from "./shims/bundles.ts";

type Mount = MessageInitShape<typeof MountSchema>;

/** File in a bundle that says that the daemon has carried out mounts for it. */
const markName = "mounts-activated";

/** How long taking mounts off may take. What is not off then is the collector's. @source containerd v2.3.4 core/runtime/v2/shim.go `cleanupTimeout` */
const deactivateMsMax = 5_000;

/** Mounts of root file systems that the mount manager carries out, each under the id of its task. */
export interface TaskMounts {
  /**
   * Has carried out what the manager must.
   *
   * @param findAllowedTypes - Asks the runtime what it mounts itself; called only when it matters.
   * @returns What is left for the runtime.
   * @throws {@link FlotillaError} what the manager fails with.
   */
  activate(
    bundle: Bundle,
    mounts: readonly Mount[],
    findAllowedTypes: () => Promise<readonly string[]>,
  ): Promise<Mount[]>;
  /** Takes off what was carried out for a bundle, if anything was. May be repeated. */
  release(bundle: Bundle): Promise<void>;
}

/** The mount manager of the snapshots process. @source containerd v2.3.4 core/runtime/v2/task_manager.go `Create`, `Delete` */
export function connectTaskMounts(snapshots: RpcConnection): TaskMounts {
  const activations = createClient(Activations, snapshots.transport);
  const service = createClient(Mounts, snapshots.transport);
  return {
    async activate({ namespace, id, path }, mounts, findAllowedTypes) {
      if (!needsMountManager(mounts.map(({ type = "" }) => type))) {
        return [...mounts];
      }
      const allowedTypes = [...(await findAllowedTypes())];
      const labels = { "containerd.io/gc.bref.container": id };
      // Before the call, so that whatever comes of it is taken off.
      await writeFile(`${path}/${markName}`, "", { mode: 0o600 });
      try {
        const { info } = await activations.activateMounts({
          namespace,
          name: id,
          mounts: [...mounts],
          labels,
          allowedTypes,
        });
        return info?.system ?? [];
      } catch (error) {
        if (isFailure(error, ErrorKind.NotImplemented)) {
          return [...mounts];
        }
        throw error;
      }
    },
    async release({ namespace, id, path }) {
      if (!isMarked(path)) {
        return;
      }
      // What the runtime has mounted lies on them.
      await unmountRecursive(path);
      try {
        await service.deactivate({ name: id }, { headers: clientHeaders(namespace), timeoutMs: deactivateMsMax });
      } catch (error) {
        if (!isFailure(error, ErrorKind.NotFound)) {
          throw error;
        }
      }
    },
  };
}

function isMarked(path: string): boolean {
  return lstatSync(`${path}/${markName}`, { throwIfNoEntry: false }) !== undefined;
}
