import { setTimeout as delay } from "node:timers/promises";
import { readFileIfThere } from "#base/durable-file.ts";
import { cgroupDirectories, removeCgroup } from "#linux/cgroup.ts";
import type { Bundle } from "../../shims/bundles.ts";

/** How often, and after how many milliseconds each, a cgroup is looked at whose last process may be ending. */
const tries = 10;
const pauseMs = 50;

/**
 * Removes the cgroups that a bundle's specification names, which the runtime has left: it makes them first and writes down what it made last,
 * so that of a creation that was interrupted between the two it knows nothing. A shim interrupts one when the client that asked for it is gone.
 *
 * Cgroups that hold processes, or other cgroups, belong to somebody else and stay. Names that systemd gives, and those that are relative, are not
 * looked for: the first go by themselves, and where the others begin only the runtime knows.
 *
 * @returns The cgroups that are still in use.
 * @throws What keeps the specification from being read, or an empty cgroup from being removed.
 */
export async function removeLeftCgroups({ path }: Bundle): Promise<string[]> {
  const cgroup = cgroupsPathOf(await readFileIfThere(`${path}/config.json`));
  if (cgroup === undefined || !/^\/+[^/]/.test(cgroup)) {
    return [];
  }
  let left = await cgroupDirectories(cgroup);
  for (let tried = 0; left.length > 0 && tried < tries; tried++) {
    if (tried > 0) {
      await delay(pauseMs);
    }
    const results = await Promise.all(left.map(removeCgroup));
    left = left.filter((_, index) => results[index] === "in use");
  }
  return left;
}

function cgroupsPathOf(spec: string | undefined): string | undefined {
  const { linux } = JSON.parse(spec ?? "{}") as { readonly linux?: { readonly cgroupsPath?: string } };
  return linux?.cgroupsPath;
}
