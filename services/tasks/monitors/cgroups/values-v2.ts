import type { MemoryStat, Metrics } from "#gen/io/containerd/cgroups/v2/metrics_pb.ts";
import { type CgroupValue, CgroupValues } from "./measure.ts";

type Amount = { [K in keyof MemoryStat]-?: MemoryStat[K] extends bigint ? K : never }[keyof MemoryStat];

/** Fields of memory.stat by their names there. */
const memoryFields: readonly (readonly [name: string, field: Amount])[] = [
  ["anon", "anon"],
  ["file", "file"],
  ["kernel_stack", "kernelStack"],
  ["slab", "slab"],
  ["sock", "sock"],
  ["shmem", "shmem"],
  ["file_mapped", "fileMapped"],
  ["file_dirty", "fileDirty"],
  ["file_writeback", "fileWriteback"],
  ["anon_thp", "anonThp"],
  ["inactive_anon", "inactiveAnon"],
  ["active_anon", "activeAnon"],
  ["inactive_file", "inactiveFile"],
  ["active_file", "activeFile"],
  ["unevictable", "unevictable"],
  ["slab_reclaimable", "slabReclaimable"],
  ["slab_unreclaimable", "slabUnreclaimable"],
  ["pgfault", "pgfault"],
  ["pgmajfault", "pgmajfault"],
  ["workingset_refault", "workingsetRefault"],
  ["workingset_activate", "workingsetActivate"],
  ["workingset_nodereclaim", "workingsetNodereclaim"],
  ["pgrefill", "pgrefill"],
  ["pgscan", "pgscan"],
  ["pgsteal", "pgsteal"],
  ["pgactivate", "pgactivate"],
  ["pgdeactivate", "pgdeactivate"],
  ["pglazyfree", "pglazyfree"],
  ["pglazyfreed", "pglazyfreed"],
  ["thp_fault_alloc", "thpFaultAlloc"],
  ["thp_collapse_alloc", "thpCollapseAlloc"],
];

/**
 * What a cgroup of version 2 tells, under the names of containerd.
 *
 * @source containerd v2.3.4 core/metrics/cgroups/v2
 */
export function valuesOfV2({ pids, cpu, memory, memoryEvents, io }: Metrics): readonly CgroupValue[] {
  const values = new CgroupValues();
  if (pids !== undefined) {
    values.add("pids_limit", pids.limit, "pids.max");
    values.add("pids_current", pids.current, "pids.current");
  }
  if (cpu !== undefined) {
    values.add("cpu_usage_usec_microseconds", cpu.usageUsec, "cpu.stat usage_usec");
    values.add("cpu_user_usec_microseconds", cpu.userUsec, "cpu.stat user_usec");
    values.add("cpu_system_usec_microseconds", cpu.systemUsec, "cpu.stat system_usec");
    values.add("cpu_nr_periods_total", cpu.nrPeriods, "cpu.stat nr_periods");
    values.add("cpu_nr_throttled_total", cpu.nrThrottled, "cpu.stat nr_throttled");
    values.add("cpu_throttled_usec_microseconds", cpu.throttledUsec, "cpu.stat throttled_usec");
  }
  if (memory !== undefined) {
    values.add("memory_usage_bytes", memory.usage, "memory.current");
    values.add("memory_usage_limit_bytes", memory.usageLimit, "memory.max");
    values.add("memory_swap_usage_bytes", memory.swapUsage, "memory.swap.current");
    values.add("memory_swap_limit_bytes", memory.swapLimit, "memory.swap.max");
    for (const [name, field] of memoryFields) {
      values.add(`memory_${name}_bytes`, memory[field], `memory.stat ${name}`);
    }
  }
  if (memoryEvents !== undefined) {
    values.add("memory_oom_total", memoryEvents.oom, "memory.events oom");
  }
  for (const { major, minor, rbytes, wbytes, rios, wios } of io?.usage ?? []) {
    const device = { major: String(major), minor: String(minor) };
    values.add("io_rbytes_bytes", rbytes, "io.stat rbytes", device);
    values.add("io_wbytes_bytes", wbytes, "io.stat wbytes", device);
    values.add("io_rios_total", rios, "io.stat rios", device);
    values.add("io_wios_total", wios, "io.stat wios", device);
  }
  return values.all;
}
