import { createClient } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { Store } from "#gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import type { RpcConnection } from "#wire/client.ts";
import { clientHeaders } from "#wire/headers.ts";
import type { Records } from "./domain/ports.ts";

/** The records of containers and sandboxes, which the metadata process keeps. */
export function connectRecords(connection: RpcConnection): Records {
  const containers = createClient(Containers, connection.transport);
  const sandboxes = createClient(Store, connection.transport);
  return {
    async getContainer(namespace, id) {
      const { container } = await containers.get({ id }, { headers: clientHeaders(namespace) });
      return {
        id: container?.id ?? id,
        runtime: container?.runtime?.name ?? "",
        runtimeOptions: container?.runtime?.options,
        spec: container?.spec,
        sandbox: container?.sandbox ?? "",
        snapshotter: container?.snapshotter ?? "",
        snapshotKey: container?.snapshotKey ?? "",
        createdAt: container?.createdAt,
      };
    },
    async findSandboxer(namespace, id) {
      try {
        const { sandbox } = await sandboxes.get({ sandboxId: id }, { headers: clientHeaders(namespace) });
        return sandbox?.sandboxer ?? "";
      } catch (error) {
        if (isFailure(error, ErrorKind.NotFound)) {
          return undefined;
        }
        throw error;
      }
    },
  };
}
