import type { Logger } from "#fleet/log.ts";
import { ContainerState } from "#gen/nri/pkg/api/v1alpha1/api_pb.ts";
import { ContainerState as KubeletState } from "#gen/runtime/v1/api_pb.ts";
import type { ContainerObservers, NewContainer } from "../containers/container-observers.ts";
import type { PodObservers } from "../pods/pod-parts.ts";
import type { Container, ContainerTable } from "../store/container.ts";
import type { Pod, PodTable } from "../store/pod.ts";
import type { NriContainer } from "./describe.ts";
import type { Nri } from "./nri.ts";

/** @source containerd v2.3.4 internal/cri/nri/nri_api_linux.go `GetStatus` */
const states = new Map<KubeletState, ContainerState>([
  [KubeletState.CONTAINER_CREATED, ContainerState.CONTAINER_CREATED],
  [KubeletState.CONTAINER_RUNNING, ContainerState.CONTAINER_RUNNING],
  [KubeletState.CONTAINER_EXITED, ContainerState.CONTAINER_STOPPED],
]);

/** Plugins as those who observe pods. @param nri - undefined where there is no NRI. */
export function podObservers(nri: Nri | undefined): PodObservers {
  return {
    runPod: async (pod) => nri?.runPod(pod),
    stopPod: async (pod) => nri?.stopPod(pod),
    removePod: async (pod) => nri?.removePod(pod),
    updatePod: async (pod, { overhead, resources }) => nri?.updatePod(pod, overhead, resources),
    postUpdatePod: async (pod) => nri?.postUpdatePod(pod),
  };
}

/** Plugins as those who observe containers. @param nri - undefined where there is no NRI. */
export function containerObservers(nri: Nri | undefined, pods: PodTable, log: Logger): ContainerObservers {
  const podOf = ({ metadata }: Container): Pod | undefined => pods.find(metadata.podId);
  /** What has happened has happened, whatever plugins say. */
  const tell = async (
    container: Container,
    act: (pod: Pod | undefined) => Promise<void> | undefined,
  ): Promise<void> => {
    try {
      await act(podOf(container));
    } catch (error) {
      log.error({ container: container.id, err: error }, "a plugin of NRI is not content with what has happened");
    }
  };
  return {
    during: (act) => (nri === undefined ? act() : nri.during(act)),
    create: async (container, spec) => nri?.createContainer(container.pod, describeNew(container), spec),
    undoCreate: async (container) => nri?.undoCreate(container.pod, describeNew(container)),
    created: (container) => tell(container, (pod) => pod && nri?.postCreateContainer(pod, describe(container))),
    start: async (container) => {
      const pod = podOf(container);
      if (pod !== undefined) {
        await nri?.startContainer(pod, describe(container));
      }
    },
    started: (container) => tell(container, (pod) => pod && nri?.postStartContainer(pod, describe(container))),
    update: async (container, resources) => {
      const pod = podOf(container);
      return pod === undefined || nri === undefined
        ? resources
        : await nri.updateContainer(pod, describe(container), resources);
    },
    updated: (container) => tell(container, (pod) => pod && nri?.postUpdateContainer(pod, describe(container))),
    stopped: (container) => tell(container, (pod) => nri?.stopContainer(pod, describe(container))),
    removed: (container) => tell(container, (pod) => nri?.removeContainer(pod, describe(container))),
  };
}

/** What is told of to a plugin that is new: what has ended is past. @source containerd v2.3.4 internal/cri/nri/nri_api_linux.go `ListContainers` */
export function listForPlugins(
  pods: PodTable,
  containers: ContainerTable,
): { readonly pods: Pod[]; readonly containers: NriContainer[] } {
  const isThere = ({ state }: Container): boolean =>
    state === KubeletState.CONTAINER_CREATED || state === KubeletState.CONTAINER_RUNNING;
  return {
    pods: pods.all().filter(({ state }) => state !== "unknown"),
    containers: containers.all().filter(isThere).map(describe),
  };
}

function describe({ id, metadata, status, state }: Container): NriContainer {
  const hasEnded = state === KubeletState.CONTAINER_EXITED;
  return {
    id,
    podId: metadata.podId,
    config: metadata.config,
    labels: {},
    state: states.get(state) ?? ContainerState.CONTAINER_UNKNOWN,
    pid: status.pid,
    createdAtNs: status.createdAtNs,
    startedAtNs: status.startedAtNs,
    finishedAtNs: status.finishedAtNs,
    exitCode: status.exitCode,
    reason: hasEnded && status.reason === "" ? (status.exitCode === 0 ? "Completed" : "Error") : status.reason,
    message: status.message,
  };
}

function describeNew({ id, pod, config }: NewContainer): NriContainer {
  return {
    id,
    podId: pod.id,
    config,
    labels: {},
    state: ContainerState.CONTAINER_UNKNOWN,
    pid: 0,
    createdAtNs: 0n,
    startedAtNs: 0n,
    finishedAtNs: 0n,
    exitCode: 0,
    reason: "",
    message: "",
  };
}
