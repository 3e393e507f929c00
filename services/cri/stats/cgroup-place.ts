import { numberIn, readPseudoFile, tableIn } from "./pseudo-file.ts";

/** Where the files of a cgroup are: one directory for all controllers, or one for each. */
export type CgroupPlace =
  | { readonly kind: "unified"; readonly directory: string }
  | { readonly kind: "legacy"; readonly directoryOf: (controller: string) => string };

const root = "/sys/fs/cgroup";
/** Where nothing is. */
const nowhere = "/nowhere";

/**
 * Finds the cgroup of a process.
 *
 * @returns undefined for a process that has ended.
 * @source cgroups(7), /proc/[pid]/cgroup
 */
export function cgroupOfProcess(pid: number, hasUnifiedCgroups: boolean): CgroupPlace | undefined {
  const text = readPseudoFile(`/proc/${pid}/cgroup`);
  if (text === undefined) {
    return undefined;
  }
  const paths = new Map<string, string>();
  for (const line of text.split("\n")) {
    const [, controllers = "", path = ""] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    for (const controller of controllers.split(",")) {
      paths.set(controller, path);
    }
  }
  if (hasUnifiedCgroups) {
    return { kind: "unified", directory: `${root}${paths.get("") ?? "/"}` };
  }
  return {
    kind: "legacy",
    directoryOf: (controller) => {
      const path = paths.get(controller);
      return path === undefined ? nowhere : `${root}/${controller}${path}`;
    },
  };
}

/** The cgroup at a path below the root of each controller. */
export function cgroupAt(path: string, hasUnifiedCgroups: boolean): CgroupPlace {
  return hasUnifiedCgroups
    ? { kind: "unified", directory: `${root}${path}` }
    : { kind: "legacy", directoryOf: (controller) => `${root}/${controller}${path}` };
}

/** Nanoseconds of processors that a cgroup has used; undefined for one that is gone. */
export function readProcessorTime(place: CgroupPlace): bigint | undefined {
  if (place.kind === "legacy") {
    return numberIn(`${place.directoryOf("cpuacct")}/cpuacct.usage`);
  }
  const table = tableIn(`${place.directory}/cpu.stat`);
  return table && table("usage_usec") * 1000n;
}
