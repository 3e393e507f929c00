import type { CgroupPlace } from "./cgroup-place.ts";
import { numberIn, tableIn } from "./pseudo-file.ts";

/** What is told of a cgroup besides its figures where every metric is asked for. */
export interface CgroupDetails {
  readonly cpu: CpuDetails | undefined;
  readonly memory: MemoryDetails | undefined;
  /** 0 where there is no limit. */
  readonly threadsMax: bigint;
}

/** Times in nanoseconds. */
export interface CpuDetails {
  readonly userNs: bigint;
  readonly systemNs: bigint;
  readonly periods: bigint;
  readonly throttledPeriods: bigint;
  readonly throttledNs: bigint;
}

/** Sizes in bytes. */
export interface MemoryDetails {
  readonly maxUsage: bigint;
  readonly cache: bigint;
  readonly mapped: bigint;
  readonly kernel: bigint;
  readonly activeFile: bigint;
  readonly inactiveFile: bigint;
  readonly failures: bigint;
  readonly oomKills: bigint;
}

/** Length of a tick in which old cgroups count. @source sysconf(3) `_SC_CLK_TCK` */
const nsPerTick = 10_000_000n;

/** Reads what a cgroup tells besides its figures; of one that is gone nothing. */
export function readDetails(place: CgroupPlace): CgroupDetails {
  return place.kind === "unified" ? readUnified(place.directory) : readLegacy(place.directoryOf);
}

function readUnified(directory: string): CgroupDetails {
  const cpu = tableIn(`${directory}/cpu.stat`);
  const memory = tableIn(`${directory}/memory.stat`);
  return {
    cpu: cpu && {
      userNs: cpu("user_usec") * 1000n,
      systemNs: cpu("system_usec") * 1000n,
      periods: cpu("nr_periods"),
      throttledPeriods: cpu("nr_throttled"),
      throttledNs: cpu("throttled_usec") * 1000n,
    },
    memory: memory && {
      maxUsage: numberIn(`${directory}/memory.peak`) ?? 0n,
      cache: memory("file"),
      mapped: memory("file_mapped"),
      kernel: memory("kernel"),
      activeFile: memory("active_file"),
      inactiveFile: memory("inactive_file"),
      failures: 0n,
      oomKills: tableIn(`${directory}/memory.events`)?.("oom_kill") ?? 0n,
    },
    threadsMax: numberIn(`${directory}/pids.max`) ?? 0n,
  };
}

function readLegacy(directoryOf: (controller: string) => string): CgroupDetails {
  const times = tableIn(`${directoryOf("cpuacct")}/cpuacct.stat`);
  const throttled = tableIn(`${directoryOf("cpu")}/cpu.stat`);
  const inMemory = directoryOf("memory");
  const memory = tableIn(`${inMemory}/memory.stat`);
  return {
    cpu: times && {
      userNs: times("user") * nsPerTick,
      systemNs: times("system") * nsPerTick,
      periods: throttled?.("nr_periods") ?? 0n,
      throttledPeriods: throttled?.("nr_throttled") ?? 0n,
      throttledNs: throttled?.("throttled_time") ?? 0n,
    },
    memory: memory && {
      maxUsage: numberIn(`${inMemory}/memory.max_usage_in_bytes`) ?? 0n,
      cache: memory("total_cache"),
      mapped: memory("total_mapped_file"),
      kernel: numberIn(`${inMemory}/memory.kmem.usage_in_bytes`) ?? 0n,
      activeFile: memory("total_active_file"),
      inactiveFile: memory("total_inactive_file"),
      failures: numberIn(`${inMemory}/memory.failcnt`) ?? 0n,
      oomKills: tableIn(`${inMemory}/memory.oom_control`)?.("oom_kill") ?? 0n,
    },
    threadsMax: numberIn(`${directoryOf("pids")}/pids.max`) ?? 0n,
  };
}
