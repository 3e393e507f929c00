import { readFileSync } from "node:fs";

/** Where the files of a cgroup are: one directory for all controllers, or one for each. */
export type CgroupPlace =
  | { readonly kind: "unified"; readonly directory: string }
  | { readonly kind: "legacy"; readonly directoryOf: (controller: string) => string | undefined };

const root = "/sys/fs/cgroup";

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
      return path === undefined ? undefined : `${root}/${controller}${path}`;
    },
  };
}

/** The cgroup at a path below the root of each controller. */
export function cgroupAt(path: string, hasUnifiedCgroups: boolean): CgroupPlace {
  return hasUnifiedCgroups
    ? { kind: "unified", directory: `${root}${path}` }
    : { kind: "legacy", directoryOf: (controller) => `${root}/${controller}${path}` };
}

/**
 * Reads a file of the kernel at once: it waits for no disk, and hundreds of them are read for one answer.
 *
 * @returns undefined when it is not there, or what it tells of has gone.
 */
export function readPseudoFile(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}
