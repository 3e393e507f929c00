import { create, toBinary } from "@bufbuild/protobuf";
import { createClient, type Transport } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { ContainerCreateSchema } from "#gen/containerd/events/container_pb.ts";
import { Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { Content } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Events } from "#gen/containerd/services/events/v1/events_pb.ts";
import { Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { Tasks } from "#gen/containerd/services/tasks/v1/tasks_pb.ts";
import { RuntimeService } from "#gen/runtime/v1/api_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import type { DaemonProcess } from "../kit/daemon.ts";
import { ClientStream } from "../kit/stream-client.ts";

/** What a probe asks about. */
export interface ProbeTarget {
  readonly transport: Transport;
  readonly namespace: string;
  /** A container that runs. */
  readonly id: string;
}

/**
 * One call for each process that only this process can answer. It resolves when the answer is right.
 *
 * All but the one of `events` may be sent twice, so the gateway lets no client see that a process died. An event that is on its way
 * to a dying process may be there or not, which only who publishes it can decide: the call of `events` does it again.
 */
export const probeCalls: Readonly<Record<Exclude<DaemonProcess, "gateway">, (target: ProbeTarget) => Promise<void>>> = {
  events: async (target) => {
    try {
      await publishProbe(target);
    } catch (error) {
      if (!isFailure(error, ErrorKind.Unavailable)) {
        throw error;
      }
      await publishProbe(target);
    }
  },
  "nats-server": publishProbe,
  metadata: async ({ transport, namespace, id }) => {
    await createClient(Containers, transport).get({ id }, { headers: clientHeaders(namespace) });
  },
  content: async ({ transport, namespace }) => {
    await createClient(Content, transport).listStatuses({}, { headers: clientHeaders(namespace) });
  },
  snapshots: async ({ transport, namespace, id }) => {
    const request = { snapshotter: "overlayfs", key: id };
    await createClient(Snapshots, transport).mounts(request, { headers: clientHeaders(namespace) });
  },
  tasks: async ({ transport, namespace, id }) => {
    await createClient(Tasks, transport).get({ containerId: id }, { headers: clientHeaders(namespace) });
  },
  transfer: async ({ transport, namespace, id }) => {
    (await ClientStream.open(transport, id, { namespace })).cancel();
  },
  cri: async ({ transport }) => {
    await createClient(RuntimeService, transport).version({});
  },
};

/** Answered when the event is durable, so it needs both the events process and the NATS server. */
async function publishProbe({ transport, namespace, id }: ProbeTarget): Promise<void> {
  const event = create(ContainerCreateSchema, { id });
  const packed = { typeUrl: ContainerCreateSchema.typeName, value: toBinary(ContainerCreateSchema, event) };
  await createClient(Events, transport).publish(
    { topic: "/flotilla/probe", event: packed },
    { headers: clientHeaders(namespace) },
  );
}
