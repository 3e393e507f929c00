import type { RuntimeService } from "#gen/runtime/v1/api_pb.ts";
import type { Handlers } from "#wire/handler.ts";
import type { ContainerTable } from "../store/container.ts";
import type { PodTable } from "../store/pod.ts";
import type { CriMetrics, TimerName } from "./cri-metrics.ts";

type TimedCalls = Pick<
  Handlers<typeof RuntimeService>,
  | "listPodSandbox"
  | "removePodSandbox"
  | "listContainers"
  | "createContainer"
  | "startContainer"
  | "stopContainer"
  | "removeContainer"
>;

/** The calls whose durations are told, with a clock around them. What is not there is not counted. */
export function timedCalls(
  metrics: CriMetrics,
  { pods, containers }: { readonly pods: PodTable; readonly containers: ContainerTable },
  calls: TimedCalls,
): TimedCalls {
  const runtimeOf = (id: string): string | undefined => known(containers, id)?.facts.runtime.name;
  const timed = async <T>(name: TimerName, label: string | undefined, act: () => Promise<T> | T): Promise<T> =>
    label === undefined ? await act() : await metrics.timed(name, label, async () => await act());
  return {
    listPodSandbox: (request, call) => {
      const startedMs = performance.now();
      const answer = calls.listPodSandbox(request, call);
      metrics.took("sandbox_list", startedMs);
      return answer;
    },
    listContainers: (request, call) => {
      const startedMs = performance.now();
      const answer = calls.listContainers(request, call);
      metrics.took("container_list", startedMs);
      return answer;
    },
    removePodSandbox: (request, call) =>
      timed("sandbox_remove", known(pods, request.podSandboxId)?.runtimeHandler, () =>
        calls.removePodSandbox(request, call),
      ),
    createContainer: (request, call) =>
      timed("container_create", known(pods, request.podSandboxId)?.runtime?.type, () =>
        calls.createContainer(request, call),
      ),
    startContainer: (request, call) =>
      timed("container_start", runtimeOf(request.containerId), () => calls.startContainer(request, call)),
    stopContainer: (request, call) =>
      timed("container_stop", runtimeOf(request.containerId), () => calls.stopContainer(request, call)),
    removeContainer: (request, call) =>
      timed("container_remove", runtimeOf(request.containerId), () => calls.removeContainer(request, call)),
  };
}

/** Something by its id; undefined where it is not there, or is not clear. */
function known<T>(table: { find(id: string): T | undefined }, id: string): T | undefined {
  try {
    return table.find(id);
  } catch {
    return undefined;
  }
}
