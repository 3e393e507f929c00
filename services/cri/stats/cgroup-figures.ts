import { type CgroupPlace } from "./cgroup-place.ts";
import { numberIn, readPseudoFile, tableIn } from "./pseudo-file.ts";

/** What a cgroup has used and uses. Each part is undefined where its controller is missing. */
export interface CgroupFigures {
  /** Nanoseconds since 1970. */
  readonly timestampNs: bigint;
  readonly cpu: CpuFigures | undefined;
  readonly memory: MemoryFigures | undefined;
  readonly processes: bigint;
}

/** Times in nanoseconds. */
export interface CpuFigures {
  readonly totalNs: bigint;
  readonly pressure: Pressure | undefined;
}

/** Sizes in bytes. */
export interface MemoryFigures {
  readonly usage: bigint;
  readonly workingSet: bigint;
  /** 0 where there is no limit. */
  readonly available: bigint;
  readonly rss: bigint;
  readonly pageFaults: bigint;
  readonly majorPageFaults: bigint;
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
 * Reads what the kubelet asks for every few seconds of every cgroup, and no file more: opening files of cgroups is what such an answer costs.
 *
 * @returns undefined when the cgroup is gone.
 */
export function readFigures(place: CgroupPlace, timestampNs: bigint): CgroupFigures | undefined {
  const { cpu, memory, processes } =
    place.kind === "unified" ? readUnified(place.directory) : readLegacy(place.directoryOf);
  return cpu === undefined && memory === undefined ? undefined : { timestampNs, cpu, memory, processes };
}

type Parts = Omit<CgroupFigures, "timestampNs">;

function readUnified(directory: string): Parts {
  const cpu = tableIn(`${directory}/cpu.stat`);
  const memory = tableIn(`${directory}/memory.stat`);
  return {
    cpu: cpu && { totalNs: cpu("usage_usec") * 1000n, pressure: pressureIn(`${directory}/cpu.pressure`) },
    memory: memory && {
      ...sizes({
        usage: numberIn(`${directory}/memory.current`),
        limit: numberIn(`${directory}/memory.max`),
        inactiveFile: memory("inactive_file"),
      }),
      rss: memory("anon"),
      pageFaults: memory("pgfault"),
      majorPageFaults: memory("pgmajfault"),
      ...swapSizes(numberIn(`${directory}/memory.swap.current`) ?? 0n, numberIn(`${directory}/memory.swap.max`)),
      pressure: pressureIn(`${directory}/memory.pressure`),
    },
    processes: numberIn(`${directory}/pids.current`) ?? 0n,
  };
}

function readLegacy(directoryOf: (controller: string) => string): Parts {
  const totalNs = numberIn(`${directoryOf("cpuacct")}/cpuacct.usage`);
  const memory = tableIn(`${directoryOf("memory")}/memory.stat`);
  return {
    cpu: totalNs === undefined ? undefined : { totalNs, pressure: undefined },
    memory: memory && {
      ...sizes({
        usage: numberIn(`${directoryOf("memory")}/memory.usage_in_bytes`),
        limit: numberIn(`${directoryOf("memory")}/memory.limit_in_bytes`),
        inactiveFile: memory("total_inactive_file"),
      }),
      rss: memory("total_rss"),
      pageFaults: memory("total_pgfault"),
      majorPageFaults: memory("total_pgmajfault"),
      ...swapSizes(memory("total_swap"), undefined),
      pressure: undefined,
    },
    processes: numberIn(`${directoryOf("pids")}/pids.current`) ?? 0n,
  };
}

/** @source containerd v2.3.4 internal/cri/server/container_stats_list.go `getWorkingSet`, `getAvailableBytes` */
function sizes({
  usage = 0n,
  limit,
  inactiveFile,
}: {
  readonly usage: bigint | undefined;
  readonly limit: bigint | undefined;
  readonly inactiveFile: bigint;
}) {
  const workingSet = inactiveFile < usage ? usage - inactiveFile : 0n;
  const isLimited = limit !== undefined && limit <= unlimited;
  return { usage, workingSet, available: isLimited && limit > workingSet ? limit - workingSet : 0n };
}

function swapSizes(swap: bigint, limit: bigint | undefined) {
  return { swap, swapAvailable: limit === undefined || limit < swap ? undefined : limit - swap };
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
