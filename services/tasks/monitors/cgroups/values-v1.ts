import type {
  BlkIOEntry,
  CPUStat,
  MemoryEntry,
  MemoryStat,
  Metrics,
} from "#gen/io/containerd/cgroups/v1/metrics_pb.ts";
import { type CgroupValue, CgroupValues } from "./measure.ts";

type Amount = { [K in keyof MemoryStat]-?: MemoryStat[K] extends bigint ? K : never }[keyof MemoryStat];

/** Fields of memory.stat by their names there. Those of the whole hierarchy have `total_` before them. */
const memoryFields: readonly (readonly [name: string, own: Amount, total: Amount])[] = [
  ["cache", "cache", "totalCache"],
  ["rss", "rss", "totalRss"],
  ["rss_huge", "rssHuge", "totalRssHuge"],
  ["mapped_file", "mappedFile", "totalMappedFile"],
  ["dirty", "dirty", "totalDirty"],
  ["writeback", "writeback", "totalWriteback"],
  ["pgpgin", "pgPgIn", "totalPgPgIn"],
  ["pgpgout", "pgPgOut", "totalPgPgOut"],
  ["pgfault", "pgFault", "totalPgFault"],
  ["pgmajfault", "pgMajFault", "totalPgMajFault"],
  ["inactive_anon", "inactiveAnon", "totalInactiveAnon"],
  ["active_anon", "activeAnon", "totalActiveAnon"],
  ["inactive_file", "inactiveFile", "totalInactiveFile"],
  ["active_file", "activeFile", "totalActiveFile"],
  ["unevictable", "unevictable", "totalUnevictable"],
];

/**
 * What a cgroup of version 1 tells, under the names of containerd.
 *
 * @source containerd v2.3.4 core/metrics/cgroups/v1
 */
export function valuesOfV1({ hugetlb, pids, cpu, memory, blkio, memoryOomControl }: Metrics): readonly CgroupValue[] {
  const values = new CgroupValues();
  for (const { usage, failcnt, max, pagesize } of hugetlb) {
    const page = { page: pagesize };
    values.add("hugetlb_usage_bytes", usage, "hugetlb usage_in_bytes", page);
    values.add("hugetlb_failcnt_total", failcnt, "hugetlb failcnt", page);
    values.add("hugetlb_max_bytes", max, "hugetlb max_usage_in_bytes", page);
  }
  if (pids !== undefined) {
    values.add("pids_limit", pids.limit, "pids.max");
    values.add("pids_current", pids.current, "pids.current");
  }
  if (cpu !== undefined) {
    addProcessorTime(values, cpu);
  }
  if (memory !== undefined) {
    addMemory(values, memory);
  }
  if (memoryOomControl !== undefined) {
    values.add("memory_oom_total", memoryOomControl.oomKill, "memory.oom_control oom_kill");
  }
  if (blkio !== undefined) {
    addDevices(values, "io_merged_recursive_total", blkio.ioMergedRecursive);
    addDevices(values, "io_queued_recursive_total", blkio.ioQueuedRecursive);
    addDevices(values, "io_service_bytes_recursive_bytes", blkio.ioServiceBytesRecursive);
    addDevices(values, "io_service_time_recursive_total", blkio.ioServiceTimeRecursive);
    addDevices(values, "io_serviced_recursive_total", blkio.ioServicedRecursive);
    addDevices(values, "io_time_recursive_total", blkio.ioTimeRecursive);
    addDevices(values, "sectors_recursive_total", blkio.sectorsRecursive);
  }
  return values.all;
}

function addProcessorTime(values: CgroupValues, { usage, throttling }: CPUStat): void {
  if (usage !== undefined) {
    values.add("cpu_total_nanoseconds", usage.total, "cpuacct.usage");
    values.add("cpu_kernel_nanoseconds", usage.kernel, "cpuacct.stat system");
    values.add("cpu_user_nanoseconds", usage.user, "cpuacct.stat user");
    for (const [cpu, time] of usage.perCpu.entries()) {
      values.add("per_cpu_nanoseconds", time, "cpuacct.usage_percpu", { cpu: String(cpu) });
    }
  }
  if (throttling !== undefined) {
    values.add("cpu_throttle_periods_total", throttling.periods, "cpu.stat nr_periods");
    values.add("cpu_throttled_periods_total", throttling.throttledPeriods, "cpu.stat nr_throttled");
    values.add("cpu_throttled_time_nanoseconds", throttling.throttledTime, "cpu.stat throttled_time");
  }
}

function addMemory(values: CgroupValues, memory: MemoryStat): void {
  for (const [name, own, total] of memoryFields) {
    values.add(`memory_${name}_bytes`, memory[own], `memory.stat ${name}`);
    values.add(`memory_total_${name}_bytes`, memory[total], `memory.stat total_${name}`);
  }
  const { hierarchicalMemoryLimit, hierarchicalSwapLimit } = memory;
  values.add(
    "memory_hierarchical_memory_limit_bytes",
    hierarchicalMemoryLimit,
    "memory.stat hierarchical_memory_limit",
  );
  values.add("memory_hierarchical_memsw_limit_bytes", hierarchicalSwapLimit, "memory.stat hierarchical_memsw_limit");
  addCounter(values, "usage", "memory", memory.usage);
  addCounter(values, "swap", "memory.memsw", memory.swap);
  addCounter(values, "kernel", "memory.kmem", memory.kernel);
  addCounter(values, "kerneltcp", "memory.kmem.tcp", memory.kernelTcp);
}

function addCounter(values: CgroupValues, name: string, file: string, entry: MemoryEntry | undefined): void {
  if (entry !== undefined) {
    values.add(`memory_${name}_failcnt_total`, entry.failcnt, `${file}.failcnt`);
    values.add(`memory_${name}_limit_bytes`, entry.limit, `${file}.limit_in_bytes`);
    values.add(`memory_${name}_max_bytes`, entry.max, `${file}.max_usage_in_bytes`);
    values.add(`memory_${name}_usage_bytes`, entry.usage, `${file}.usage_in_bytes`);
  }
}

function addDevices(values: CgroupValues, name: string, entries: readonly BlkIOEntry[]): void {
  for (const { op, device, major, minor, value } of entries) {
    const labels = { op, device, major: String(major), minor: String(minor) };
    values.add(`blkio_${name}`, value, `blkio.${name.replace(/_(?:total|bytes)$/, "")}`, labels);
  }
}
