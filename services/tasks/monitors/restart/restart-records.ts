import { createClient } from "@connectrpc/connect";
import { type Container, Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { Namespaces } from "#gen/containerd/services/namespaces/v1/namespaces_pb.ts";
import type { RpcConnection } from "#wire/client.ts";
import { clientHeaders } from "#wire/headers.ts";
import type { RootMounts } from "../../root-mounts.ts";
import { restartLabels } from "./restart-policy.ts";

/** How long one call may take. */
const callMsMax = 30_000;

/** The records that starting containers again goes by. */
export interface RestartRecords {
  namespaces(signal: AbortSignal): Promise<string[]>;
  /** The containers of a namespace of which a client wants that they run, or that they do not. */
  containers(namespace: string, signal: AbortSignal): Promise<Container[]>;
  /** Notes how often a container was started again. @returns Its record as it is then. */
  noteCount(namespace: string, id: string, count: number): Promise<Container | undefined>;
  /** The record of a container. */
  container(namespace: string, id: string): Promise<Container | undefined>;
  readonly mounts: RootMounts;
}

/** The records as metadata and snapshots keep them. */
export function connectRestartRecords(metadata: RpcConnection, mounts: RootMounts): RestartRecords {
  const namespaces = createClient(Namespaces, metadata.transport);
  const containers = createClient(Containers, metadata.transport);
  const timeoutMs = callMsMax;
  return {
    async namespaces(signal) {
      return (await namespaces.list({}, { signal, timeoutMs })).namespaces.map(({ name }) => name);
    },
    async containers(namespace, signal) {
      const filters = [`labels."${restartLabels.status}"`];
      const options = { headers: clientHeaders(namespace), signal, timeoutMs };
      return (await containers.list({ filters }, options)).containers;
    },
    async noteCount(namespace, id, count) {
      const labels = { [restartLabels.count]: String(count) };
      const updateMask = { paths: [`labels.${restartLabels.count}`] };
      const options = { headers: clientHeaders(namespace), timeoutMs };
      return (await containers.update({ container: { id, labels }, updateMask }, options)).container;
    },
    async container(namespace, id) {
      const options = { headers: clientHeaders(namespace), timeoutMs };
      return (await containers.get({ id }, options)).container;
    },
    mounts,
  };
}
