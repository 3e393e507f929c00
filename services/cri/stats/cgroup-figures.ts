import { type CgroupPlace, readPseudoFile } from "./cgroup-place.ts";

/** What a cgroup has used and uses. */
export interface CgroupFigures {
  /** Nanoseconds since 1970. */
  readonly timestampNs: bigint;
  readonly cpu: CpuFigures | undefined;
  readonly memory: MemoryFigures | undefined;
  readonly processes: bigint;
  readonly threadsMax: bigint | undefined;
}

/** Times in nanoseconds. */
export interface CpuFigures {
  readonly totalNs: bigint;
  readonly userNs: bigint;
  readonly systemNs: bigint;
  readonly periods: bigint;
  readonly throttledPeriods: bigint;
  readonly throttledNs: bigint;
  readonly pressure: Pressure | undefined;
}

/** Sizes in bytes. */
export interface MemoryFigures {
  readonly usage: bigint;
  readonly maxUsage: bigint;
  readonly workingSet: bigint;
  /** 0 where there is no limit. */
  readonly available: bigint;
  readonly rss: bigint;
  readonly cache: bigint;
  readonly mapped: bigint;
  readonly kernel: bigint;
  readonly activeFile: bigint;
  readonly inactiveFile: bigint;
  readonly pageFaults: bigint;
  readonly majorPageFaults: bigint;
  readonly failures: bigint;
  readonly oomKills: bigint;
  readonly swap: bigint;
  /** undefined where there is no limit. */
  readonly swapAvailable: bigint | undefined;
  readonly pressure: Pressure | undefined;
}

/** How much work waits. @source kernel documentation, psi.rst */
export interface Pressure {
  readonly some: PressureLine | undefined;
  readonly full: PressureLine | undefined;
}

interface PressureLine {
  readonly totalNs: bigint;
  readonly avg10: number;
  readonly avg60: number;
  readonly avg300: number;
}

/** Above this a limit of memory is none: the kernel rounds it. @source containerd v2.3.4 internal/cri/server/container_stats_list.go `isMemoryUnlimited` */
const unlimited = 1n << 62n;

/**
 * Reads what a cgroup uses.
 *
 * @returns undefined when the cgroup is gone.
 */
export function readFigures(place: CgroupPlace, timestampNs: bigint): CgroupFigures | undefined {
  return place.kind === "unified"
    ? readUnified(place.directory, timestampNs)
    : readLegacy(place.directoryOf, timestampNs);
}

function readUnified(directory: string, timestampNs: bigint): CgroupFigures | undefined {
  const cpu = tableIn(`${directory}/cpu.stat`);
  const memory = tableIn(`${directory}/memory.stat`);
  if (cpu === undefined && memory === undefined) {
    return undefined;
  }
  const usage = numberIn(`${directory}/memory.current`) ?? 0n;
  const limit = numberIn(`${directory}/memory.max`);
  const swap = numberIn(`${directory}/memory.swap.current`) ?? 0n;
  const swapLimit = numberIn(`${directory}/memory.swap.max`);
  const events = tableIn(`${directory}/memory.events`);
  return {
    timestampNs,
    cpu: cpu && {
      totalNs: cpu("usage_usec") * 1000n,
      userNs: cpu("user_usec") * 1000n,
      systemNs: cpu("system_usec") * 1000n,
      periods: cpu("nr_periods"),
      throttledPeriods: cpu("nr_throttled"),
      throttledNs: cpu("throttled_usec") * 1000n,
      pressure: pressureIn(`${directory}/cpu.pressure`),
    },
    memory: memory && {
      ...sizes({ usage, limit, inactiveFile: memory("inactive_file") }),
      maxUsage: numberIn(`${directory}/memory.peak`) ?? 0n,
      rss: memory("anon"),
      cache: memory("file"),
      mapped: memory("file_mapped"),
      kernel: memory("kernel"),
      activeFile: memory("active_file"),
      pageFaults: memory("pgfault"),
      majorPageFaults: memory("pgmajfault"),
      failures: 0n,
      oomKills: events?.("oom_kill") ?? 0n,
      swap,
      swapAvailable: swapLimit === undefined || swapLimit < swap ? undefined : swapLimit - swap,
      pressure: pressureIn(`${directory}/memory.pressure`),
    },
    processes: numberIn(`${directory}/pids.current`) ?? 0n,
    threadsMax: numberIn(`${directory}/pids.max`),
  };
}

function readLegacy(
  directoryOf: (controller: string) => string | undefined,
  timestampNs: bigint,
): CgroupFigures | undefined {
  const at = (controller: string, file: string): string => `${directoryOf(controller) ?? "/nowhere"}/${file}`;
  const totalNs = numberIn(at("cpuacct", "cpuacct.usage"));
  const memory = tableIn(at("memory", "memory.stat"));
  if (totalNs === undefined && memory === undefined) {
    return undefined;
  }
  const times = tableIn(at("cpuacct", "cpuacct.stat"));
  const throttled = tableIn(at("cpu", "cpu.stat"));
  const usage = numberIn(at("memory", "memory.usage_in_bytes")) ?? 0n;
  const control = tableIn(at("memory", "memory.oom_control"));
  return {
    timestampNs,
    cpu:
      totalNs === undefined
        ? undefined
        : {
            totalNs,
            userNs: (times?.("user") ?? 0n) * nsPerTick,
            systemNs: (times?.("system") ?? 0n) * nsPerTick,
            periods: throttled?.("nr_periods") ?? 0n,
            throttledPeriods: throttled?.("nr_throttled") ?? 0n,
            throttledNs: throttled?.("throttled_time") ?? 0n,
            pressure: undefined,
          },
    memory: memory && {
      ...sizes({
        usage,
        limit: numberIn(at("memory", "memory.limit_in_bytes")),
        inactiveFile: memory("total_inactive_file"),
      }),
      maxUsage: numberIn(at("memory", "memory.max_usage_in_bytes")) ?? 0n,
      rss: memory("total_rss"),
      cache: memory("total_cache"),
      mapped: memory("total_mapped_file"),
      kernel: numberIn(at("memory", "memory.kmem.usage_in_bytes")) ?? 0n,
      activeFile: memory("total_active_file"),
      pageFaults: memory("total_pgfault"),
      majorPageFaults: memory("total_pgmajfault"),
      failures: numberIn(at("memory", "memory.failcnt")) ?? 0n,
      oomKills: control?.("oom_kill") ?? 0n,
      swap: memory("total_swap"),
      swapAvailable: undefined,
      pressure: undefined,
    },
    processes: numberIn(at("pids", "pids.current")) ?? 0n,
    threadsMax: numberIn(at("pids", "pids.max")),
  };
}

/** Length of a tick in which old cgroups count. @source sysconf(3) `_SC_CLK_TCK` */
const nsPerTick = 10_000_000n;

/** @source containerd v2.3.4 internal/cri/server/container_stats_list.go `getWorkingSet`, `getAvailableBytes` */
function sizes({
  usage,
  limit,
  inactiveFile,
}: {
  readonly usage: bigint;
  readonly limit: bigint | undefined;
  readonly inactiveFile: bigint;
}) {
  const workingSet = inactiveFile < usage ? usage - inactiveFile : 0n;
  const isLimited = limit !== undefined && limit <= unlimited;
  return { usage, inactiveFile, workingSet, available: isLimited && limit > workingSet ? limit - workingSet : 0n };
}

/** A number in a file; undefined for `max`, too. */
function numberIn(path: string): bigint | undefined {
  const text = readPseudoFile(path)?.trim() ?? "";
  return /^\d+$/.test(text) ? BigInt(text) : undefined;
}

/** The numbers of a file by their names; those that it does not have are 0. */
function tableIn(path: string): ((key: string) => bigint) | undefined {
  const text = readPseudoFile(path);
  if (text === undefined) {
    return undefined;
  }
  const values = new Map(text.split("\n").map((line) => line.split(" ") as [string, string | undefined]));
  return (key) => {
    const value = values.get(key) ?? "";
    return /^\d+$/.test(value) ? BigInt(value) : 0n;
  };
}

function pressureIn(path: string): Pressure | undefined {
  const text = readPseudoFile(path);
  if (text === undefined) {
    return undefined;
  }
  const line = (kind: string): PressureLine | undefined => {
    const [, avg10, avg60, avg300, total] =
      new RegExp(String.raw`^${kind} avg10=([\d.]+) avg60=([\d.]+) avg300=([\d.]+) total=(\d+)$`, "m").exec(text) ?? [];
    return total === undefined
      ? undefined
      : { totalNs: BigInt(total) * 1000n, avg10: Number(avg10), avg60: Number(avg60), avg300: Number(avg300) };
  };
  return { some: line("some"), full: line("full") };
}
