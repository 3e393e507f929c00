import type { MessageInitShape } from "@bufbuild/protobuf";
import type { MetricDescriptorSchema } from "#gen/runtime/v1/api_pb.ts";

/** Which labels a figure has besides those that all have. */
type MoreLabels = readonly string[];

/** Labels that every figure has, in this order. @source containerd v2.3.4 internal/cri/server/list_metric_descriptors.go `baseLabelKeys` */
export const baseLabels = ["pod", "namespace", "container", "id", "image"] as const;

const none: MoreLabels = [];
const network: MoreLabels = ["interface"];
const disk: MoreLabels = ["device"];

/**
 * The figures that are given of containers and pods, under the names that they have had since the kubelet counted by itself. What containerd names besides and only old kernels or nobody counts,
 * such as reads of single devices, is not among them.
 *
 * @source containerd v2.3.4 internal/cri/server/list_metric_descriptors_linux.go `getMetricDescriptors`
 */
const descriptors = {
  container_cpu_user_seconds_total: ["Time of processors used by programs, in seconds.", none],
  container_cpu_system_seconds_total: ["Time of processors used by the kernel, in seconds.", none],
  container_cpu_usage_seconds_total: ["Time of processors used, in seconds.", none],
  container_cpu_cfs_periods_total: ["Periods in which a limit of processors was enforced.", none],
  container_cpu_cfs_throttled_periods_total: ["Periods in which the limit was reached.", none],
  container_cpu_cfs_throttled_seconds_total: ["Time for which processes were held back, in seconds.", none],
  container_memory_cache: ["Memory that holds contents of files, in bytes.", none],
  container_memory_rss: ["Memory that belongs to no file, in bytes.", none],
  container_memory_kernel_usage: ["Memory of the kernel, in bytes.", none],
  container_memory_mapped_file: ["Memory that is mapped from files, in bytes.", none],
  container_memory_swap: ["Memory that is swapped out, in bytes.", none],
  container_memory_failcnt: ["How often the limit of memory was reached; 0 with cgroups of version 2.", none],
  container_memory_usage_bytes: ["Memory in use, in bytes.", none],
  container_memory_max_usage_bytes: ["Most memory that was in use at a time, in bytes.", none],
  container_memory_working_set_bytes: [
    "Memory in use but for contents of files that nobody has read lately, in bytes.",
    none,
  ],
  container_memory_total_active_file_bytes: ["Contents of files that have been read lately, in bytes.", none],
  container_memory_total_inactive_file_bytes: ["Contents of files that have not been read lately, in bytes.", none],
  container_memory_failures_total: ["Faults of pages.", ["failure_type", "scope"]],
  container_oom_events_total: ["Processes that the kernel has killed for want of memory.", none],
  container_network_receive_bytes_total: ["Bytes received.", network],
  container_network_receive_packets_total: ["Packets received.", network],
  container_network_receive_packets_dropped_total: ["Packets thrown away when received.", network],
  container_network_receive_errors_total: ["Errors in receiving.", network],
  container_network_transmit_bytes_total: ["Bytes sent.", network],
  container_network_transmit_packets_total: ["Packets sent.", network],
  container_network_transmit_packets_dropped_total: ["Packets thrown away when sent.", network],
  container_network_transmit_errors_total: ["Errors in sending.", network],
  container_fs_usage_bytes: ["Bytes written to the root file system, as last measured.", disk],
  container_processes: ["Processes.", none],
  container_threads_max: ["Most threads that there may be; 0 for any number.", none],
  container_last_seen: ["When the container was last looked at, in seconds since 1970.", none],
  container_start_time_seconds: ["When the container was started, in seconds since 1970.", none],
  container_spec_cpu_period: ["Period of the limit of processors, in microseconds.", none],
  container_spec_cpu_shares: ["Share of processors.", none],
  container_spec_memory_limit_bytes: ["Limit of memory, in bytes; 0 for none.", none],
  container_spec_memory_swap_limit_bytes: ["Limit of memory and swap together, in bytes; 0 for none.", none],
} as const satisfies Readonly<Record<string, readonly [help: string, labels: MoreLabels]>>;

/** Name of a figure. */
export type MetricName = keyof typeof descriptors;

/** All figures, as the kubelet is told of them. */
export function metricDescriptors(): MessageInitShape<typeof MetricDescriptorSchema>[] {
  return Object.entries(descriptors).map(([name, [help, labels]]) => ({
    name,
    help,
    labelKeys: [...baseLabels, ...labels],
  }));
}
