import { ErrorKind, FlotillaError, failure, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { wallClock } from "#base/times.ts";
import { ContainerState, type PodSandboxStatsFilter, type RuntimeService } from "#gen/runtime/v1/api_pb.ts";
import { encodeRecords } from "#wire/encoded-records.ts";
import { EncodedResponse, type Handlers } from "#wire/handler.ts";
import { selectContainers } from "../containers/list.ts";
import type { Container } from "../store/container.ts";
import type { Pod } from "../store/pod.ts";
import { metricDescriptors } from "./metric-descriptors.ts";
import { podMetrics } from "./metrics.ts";
import { Figures, type StatsParts } from "./pod-figures.ts";
import { containerStats, podStats } from "./stats-messages.ts";

/** How many items one piece of a list has. */
const pieceLength = 100;

type StatsCalls = Pick<
  Handlers<typeof RuntimeService>,
  | "containerStats"
  | "listContainerStats"
  | "streamContainerStats"
  | "podSandboxStats"
  | "listPodSandboxStats"
  | "streamPodSandboxStats"
  | "listMetricDescriptors"
  | "listPodSandboxMetrics"
  | "streamPodSandboxMetrics"
>;

/** What the kubelet asks of what pods and containers take. */
export function statsCalls(parts: StatsParts): StatsCalls {
  const { pods, containers } = parts;
  const figures = new Figures(parts);
  const describe = (found: readonly Container[]): Promise<EncodedResponse> =>
    answer(found, async (one) => containerStats(one, await figures.ofContainer(one)));
  const describePods = (found: readonly Pod[]): Promise<EncodedResponse> =>
    answer(found, (pod) => statsOfPod(parts, figures, pod));
  return {
    containerStats: async ({ containerId }) => {
      const container = find(containers, containerId, "failed to find container");
      if (container.state !== ContainerState.CONTAINER_RUNNING) {
        // What lists tell of it, its place on disk, is not asked for here.
        throw new FlotillaError(ErrorKind.Unknown, "unexpected metrics response: []");
      }
      return await describe([container]);
    },
    listContainerStats: ({ filter }) => describe(selectContainers(parts, filter)),
    streamContainerStats: async function* ({ filter }) {
      for (const piece of pieces(selectContainers(parts, filter))) {
        yield await describe(piece);
      }
    },
    podSandboxStats: async ({ podSandboxId }) => {
      const pod = find(pods, podSandboxId, `an error occurred when trying to find sandbox ${podSandboxId}`);
      if (pod.state !== "ready") {
        throw failure(
          ErrorKind.Unavailable,
          `failed to decode sandbox container metrics for sandbox ${quote(podSandboxId)}: failed to get pod sandbox stats since sandbox container ${quote(pod.id)} is not in ready state`,
        );
      }
      return await describePods([pod]);
    },
    listPodSandboxStats: async ({ filter }) => await describePods(selectPods(parts, filter)),
    streamPodSandboxStats: async function* ({ filter }) {
      for (const piece of pieces(selectPods(parts, filter))) {
        yield await describePods(piece);
      }
    },
    listMetricDescriptors: () => ({ descriptors: metricDescriptors() }),
    listPodSandboxMetrics: async () => ({
      podMetrics: await Promise.all(selectPods(parts, undefined).map((pod) => podMetrics(parts, figures, pod))),
    }),
    streamPodSandboxMetrics: async function* () {
      for (const piece of pieces(selectPods(parts, undefined))) {
        yield { podSandboxMetrics: await Promise.all(piece.map((pod) => podMetrics(parts, figures, pod))) };
      }
    },
  };
}

/**
 * One or many in field 1, as all answers have them. Each is encoded before the next is looked at: nothing is waited for, and figures of all together would outlive the
 * young generation.
 */
async function answer<T>(items: readonly T[], encode: (item: T) => Promise<Uint8Array>): Promise<EncodedResponse> {
  const stats: Uint8Array[] = [];
  for (const item of items) {
    stats.push(await encode(item));
  }
  return new EncodedResponse(encodeRecords(stats));
}

async function statsOfPod(parts: StatsParts, figures: Figures, pod: Pod): Promise<Uint8Array> {
  const own = parts.containers.all().filter(({ metadata }) => metadata.podId === pod.id);
  const found = await Promise.all(
    own.map(async (container) => ({ container, taken: await figures.ofContainer(container) })),
  );
  const taken = found.map((entry) => entry.taken);
  return podStats(pod, {
    timestampNs: wallClock(),
    ...(await figures.ofPod(pod, taken)),
    containers: found.map((entry) => containerStats(entry.container, entry.taken)),
    processes: taken.reduce((sum, { cgroup }) => sum + (cgroup?.processes ?? 0n), 0n),
  });
}

/** The pods that are ready and that a filter fits. @source containerd v2.3.4 internal/cri/server/sandbox_stats_list.go `sandboxesForListPodSandboxStatsRequest` */
function selectPods(
  { pods }: StatsParts,
  filter: Pick<PodSandboxStatsFilter, "id" | "labelSelector"> | undefined,
): Pod[] {
  const ready = pods.all().filter(({ state }) => state === "ready");
  if (filter === undefined) {
    return ready;
  }
  const id = filter.id === "" ? "" : (pods.find(filter.id)?.id ?? filter.id);
  const wanted = Object.entries(filter.labelSelector);
  return ready.filter(
    (pod) => (id === "" || pod.id === id) && wanted.every(([key, value]) => pod.config.labels[key] === value),
  );
}

function find<T>(table: { get(id: string): T }, id: string, context: string): T {
  try {
    return table.get(id);
  } catch (error) {
    throw wrapFailure(error, context);
  }
}

function* pieces<T>(items: readonly T[]): Generator<T[]> {
  for (let start = 0; start < items.length; start += pieceLength) {
    yield items.slice(start, start + pieceLength);
  }
}
