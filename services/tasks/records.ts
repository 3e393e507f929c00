import { createClient } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { Store } from "#gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import type { RpcConnection } from "#wire/client.ts";
import { clientHeaders } from "#wire/headers.ts";
import type { ContainerRecord, Records } from "./domain/ports.ts";

/** A number that changes before anybody is told that a container has gone; undefined when that cannot be known. */
export interface ContainerRemovals {
  read(): bigint | undefined;
}

/** Containers that are remembered, those that were asked for last. */
const rememberedMax = 1_024;

/** The records of containers and sandboxes, which the metadata process keeps. */
export function connectRecords(connection: Pick<RpcConnection, "transport">, removals: ContainerRemovals): Records {
  const containers = createClient(Containers, connection.transport);
  const sandboxes = createClient(Store, connection.transport);
  /** The number when a container was seen. */
  const seen = new Map<string, bigint>();
  const remember = (key: string, mark: bigint | undefined): void => {
    seen.delete(key);
    if (mark !== undefined) {
      seen.set(key, mark);
    }
    const [oldest] = seen.size > rememberedMax ? seen.keys() : [];
    if (oldest !== undefined) {
      seen.delete(oldest);
    }
  };
  const getContainer = async (namespace: string, id: string): Promise<ContainerRecord> => {
    // Read before: a removal after the answer is then seen by whoever looks next.
    const mark = removals.read();
    const { container } = await containers.get({ id }, { headers: clientHeaders(namespace) });
    remember(`${namespace}/${id}`, mark);
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
  };
  return {
    getContainer,
    async requireContainer(namespace, id) {
      const mark = seen.get(`${namespace}/${id}`);
      if (mark === undefined || mark !== removals.read()) {
        await getContainer(namespace, id);
      }
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
