import { together } from "#base/together.ts";
import type { ContainerStatus } from "#gen/runtime/v1/api_pb.ts";
import type { Container, ContainerTable } from "../store/container.ts";
import { IdTable } from "../store/id-table.ts";
import { NameTable } from "../store/name-table.ts";
import { containerCalls } from "./container-calls.ts";
import type { ContainerParts } from "./container-parts.ts";
import { Exits } from "./exits.ts";
import { unmountImages } from "./image-volumes.ts";
import { followOutOfMemory } from "./out-of-memory.ts";
import { recoverContainers } from "./recover.ts";
import { removeContainer } from "./remove.ts";
import { containerStatus } from "./status.ts";
import { stopContainer } from "./stop.ts";

/** Everything of this process that is about containers. */
export interface Containers {
  readonly table: ContainerTable;
  readonly parts: ContainerParts;
  readonly calls: ReturnType<typeof containerCalls>;
  /** Takes in what is there, and follows what happens from then on. The pods are known by then. */
  start(): Promise<void>;
  /** Kills all containers of a pod and waits for their end. */
  stopAll(podId: string): Promise<void>;
  /** Removes all containers of a pod. */
  removeAll(podId: string): Promise<void>;
  /** What the kubelet is told of the containers of a pod. */
  statuses(podId: string): ContainerStatus[];
}

/** Puts containers together. */
export function openContainers(
  sources: Omit<ContainerParts, "containers" | "names" | "exits">,
  resources: AsyncDisposableStack,
): Containers {
  const table: ContainerTable = new IdTable<Container>();
  const exits = new Exits(sources);
  const parts: ContainerParts = { ...sources, containers: table, names: new NameTable(), exits };
  const ofPod = (podId: string): Container[] => table.all().filter(({ metadata }) => metadata.podId === podId);
  return {
    table,
    parts,
    calls: containerCalls(parts),
    async start() {
      await recoverContainers(parts);
      const following = followOutOfMemory(parts);
      resources.defer(() => following);
    },
    stopAll: async (podId) => {
      await together(ofPod(podId).map((container) => stopContainer(parts, container, { graceMs: 0 })));
      await unmountImages(parts, podId);
    },
    removeAll: async (podId) => {
      await together(ofPod(podId).map((container) => removeContainer(parts, container)));
    },
    statuses: (podId) => ofPod(podId).map((container) => containerStatus(container, parts.images.store)),
  };
}
