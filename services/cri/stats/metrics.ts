import type { MessageInitShape } from "@bufbuild/protobuf";
import { nsPerSecond, wallClock } from "#base/times.ts";
import { type MetricSchema, MetricType, type PodSandboxMetricsSchema } from "#gen/runtime/v1/api_pb.ts";
import type { Container } from "../store/container.ts";
import type { Pod } from "../store/pod.ts";
import type { CgroupDetails } from "./cgroup-details.ts";
import type { CgroupFigures } from "./cgroup-figures.ts";
import type { MetricName } from "./metric-descriptors.ts";
import type { InterfaceFigures } from "./network-figures.ts";
import type { Figures, StatsParts } from "./pod-figures.ts";
import type { ContainerFigures } from "./stats-messages.ts";

type Metric = MessageInitShape<typeof MetricSchema>;
type Values = readonly (readonly [name: MetricName, value: bigint, ...labels: string[]])[];

const gauges: ReadonlySet<MetricName> = new Set([
  "container_memory_cache",
  "container_memory_rss",
  "container_memory_kernel_usage",
  "container_memory_mapped_file",
  "container_memory_swap",
  "container_memory_usage_bytes",
  "container_memory_max_usage_bytes",
  "container_memory_working_set_bytes",
  "container_memory_total_active_file_bytes",
  "container_memory_total_inactive_file_bytes",
  "container_fs_usage_bytes",
  "container_processes",
  "container_threads_max",
  "container_last_seen",
  "container_start_time_seconds",
  "container_spec_cpu_period",
  "container_spec_cpu_shares",
  "container_spec_memory_limit_bytes",
  "container_spec_memory_swap_limit_bytes",
]);

/**
 * All figures of a pod: those of its network, and those of each container.
 *
 * @source containerd v2.3.4 internal/cri/server/list_pod_sandbox_metrics_linux.go `collectPodSandboxMetrics`, `collectContainerMetrics`
 */
export async function podMetrics(
  parts: StatsParts,
  figures: Figures,
  pod: Pod,
): Promise<MessageInitShape<typeof PodSandboxMetricsSchema>> {
  const own = parts.containers.all().filter(({ metadata }) => metadata.podId === pod.id);
  const found = await Promise.all(
    own.map(async (container) => ({
      container,
      taken: await figures.ofContainer(container),
      details: await figures.detailsOfContainer(container),
    })),
  );
  const { cgroup, interfaces } = await figures.ofPod(
    pod,
    found.map(({ taken }) => taken),
  );
  const podDetails = await figures.detailsOfPod(
    pod,
    found.map(({ details }) => details),
  );
  const timestamp = wallClock();
  const { name = "", namespace = "" } = pod.config.metadata ?? {};
  const labels = [name, namespace, "POD", pod.id, ""];
  return {
    podSandboxId: pod.id,
    metrics: metricsOf([...cgroupValues(cgroup, podDetails), ...networkValues(interfaces ?? [])], labels, timestamp),
    containerMetrics: found.map(({ container, taken, details }) => ({
      containerId: container.id,
      metrics: metricsOf(
        [...cgroupValues(taken.cgroup, details), ...containerValues(container, taken, timestamp)],
        [name, namespace, ...labelsOf(container)],
        timestamp,
      ),
    })),
  };
}

function labelsOf({ id, metadata }: Container): string[] {
  return [metadata.config.metadata?.name ?? "", id, metadata.config.image?.image ?? ""];
}

function metricsOf(values: Values, labels: readonly string[], timestamp: bigint): Metric[] {
  return values.map(([name, value, ...more]) => ({
    name,
    timestamp,
    metricType: gauges.has(name) ? MetricType.GAUGE : MetricType.COUNTER,
    labelValues: [...labels, ...more],
    value: { value },
  }));
}

function containerValues({ status, facts }: Container, { layer }: ContainerFigures, nowNs: bigint): Values {
  const limits = status.resources;
  return [
    ["container_fs_usage_bytes", layer?.sizeBytes ?? 0n, facts.snapshotter],
    ["container_last_seen", nowNs / nsPerSecond],
    ["container_start_time_seconds", status.startedAtNs / nsPerSecond],
    ["container_spec_cpu_period", limits?.cpuPeriod ?? 0n],
    ["container_spec_cpu_shares", limits?.cpuShares ?? 0n],
    ["container_spec_memory_limit_bytes", limits?.memoryLimitInBytes ?? 0n],
    ["container_spec_memory_swap_limit_bytes", limits?.memorySwapLimitInBytes ?? 0n],
  ];
}

function cgroupValues(figures: CgroupFigures | undefined, details: CgroupDetails | undefined): Values {
  if (figures === undefined) {
    return [];
  }
  const { cpu, memory, processes } = figures;
  const { cpu: times, memory: sizes, threadsMax = 0n } = details ?? {};
  return [
    ...(cpu === undefined
      ? []
      : ([
          ["container_cpu_user_seconds_total", (times?.userNs ?? 0n) / nsPerSecond],
          ["container_cpu_system_seconds_total", (times?.systemNs ?? 0n) / nsPerSecond],
          ["container_cpu_usage_seconds_total", cpu.totalNs / nsPerSecond],
          ["container_cpu_cfs_periods_total", times?.periods ?? 0n],
          ["container_cpu_cfs_throttled_periods_total", times?.throttledPeriods ?? 0n],
          ["container_cpu_cfs_throttled_seconds_total", (times?.throttledNs ?? 0n) / nsPerSecond],
        ] satisfies Values)),
    ...(memory === undefined
      ? []
      : ([
          ["container_memory_cache", sizes?.cache ?? 0n],
          ["container_memory_rss", memory.rss],
          ["container_memory_kernel_usage", sizes?.kernel ?? 0n],
          ["container_memory_mapped_file", sizes?.mapped ?? 0n],
          ["container_memory_swap", memory.swap],
          ["container_memory_failcnt", sizes?.failures ?? 0n],
          ["container_memory_usage_bytes", memory.usage],
          ["container_memory_max_usage_bytes", sizes?.maxUsage ?? 0n],
          ["container_memory_working_set_bytes", memory.workingSet],
          ["container_memory_total_active_file_bytes", sizes?.activeFile ?? 0n],
          ["container_memory_total_inactive_file_bytes", sizes?.inactiveFile ?? 0n],
          ["container_memory_failures_total", memory.pageFaults, "pgfault", "container"],
          ["container_memory_failures_total", memory.majorPageFaults, "pgmajfault", "container"],
          ["container_oom_events_total", sizes?.oomKills ?? 0n],
        ] satisfies Values)),
    ["container_processes", processes],
    ["container_threads_max", threadsMax],
  ];
}

function networkValues(interfaces: readonly InterfaceFigures[]): Values {
  return interfaces.flatMap(
    (figures) =>
      [
        ["container_network_receive_bytes_total", figures.receivedBytes, figures.name],
        ["container_network_receive_packets_total", figures.receivedPackets, figures.name],
        ["container_network_receive_packets_dropped_total", figures.receiveDropped, figures.name],
        ["container_network_receive_errors_total", figures.receiveErrors, figures.name],
        ["container_network_transmit_bytes_total", figures.sentBytes, figures.name],
        ["container_network_transmit_packets_total", figures.sentPackets, figures.name],
        ["container_network_transmit_packets_dropped_total", figures.sendDropped, figures.name],
        ["container_network_transmit_errors_total", figures.sendErrors, figures.name],
      ] satisfies Values,
  );
}
