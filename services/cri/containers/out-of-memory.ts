import { setTimeout as delay } from "node:timers/promises";
import { fromBinary } from "@bufbuild/protobuf";
import { TaskOOMSchema } from "#gen/containerd/events/task_pb.ts";
import { criCall, criNamespace } from "../peers.ts";
import type { ContainerParts } from "./container-parts.ts";

/** The wait before events are asked for again, in milliseconds. */
const retryMs = 1_000;

/**
 * Follows what the kernel kills in containers for want of memory until the process stops: a container that goes on has its reason from then on, as containerd has it. What is missed
 * while events are not heard is found when the container ends. Never rejects.
 *
 * @source containerd v2.3.4 internal/cri/server/events.go `HandleEvent`
 */
export async function followOutOfMemory({ peers, containers, exits, log, stopping }: ContainerParts): Promise<void> {
  const filters = [`namespace==${criNamespace},topic=="/tasks/oom"`];
  while (!stopping.aborted) {
    try {
      const call = criCall({ signal: stopping, timeoutMs: Number.POSITIVE_INFINITY });
      for await (const { event } of peers.events.subscribe({ filters }, call)) {
        const id = event === undefined ? "" : fromBinary(TaskOOMSchema, event.value).containerId;
        const container = containers.all().find((candidate) => candidate.id === id);
        if (container !== undefined) {
          await exits.noteOutOfMemory(container);
        }
      }
    } catch (error) {
      if (!stopping.aborted) {
        log.debug({ err: error }, "events of memory are not heard");
      }
    }
    await delay(retryMs, undefined, { signal: stopping, ref: false }).catch(() => undefined);
  }
}
