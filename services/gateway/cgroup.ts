import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { readMountInfo } from "#linux/mount-info.ts";

/** What a new cgroup of version 1 has to be given before a process may enter it. @source cgroups(7), "cpuset" */
const cpusetFiles = ["cpuset.cpus", "cpuset.mems"];

/**
 * Moves this process, and so all that it starts from now on, into a cgroup. With version 1 of cgroups that is the one of this path below every
 * controller, made where it is not there; with version 2 alone it has to be there.
 *
 * @param path - Path of the cgroup below the root of its hierarchy.
 * @throws The error of `node:fs` when it cannot be made or entered.
 * @source containerd v2.3.4 cmd/containerd/server/server_linux.go `apply`
 */
export async function joinCgroup(path: string): Promise<void> {
  const mounts = await readMountInfo();
  const controllers = mounts.filter(({ type }) => type === "cgroup").map(({ mountPoint }) => mountPoint);
  if (controllers.length === 0) {
    const unified = mounts.find(({ type }) => type === "cgroup2")?.mountPoint ?? "/sys/fs/cgroup";
    await enter(join(unified, path));
    return;
  }
  for (const controller of controllers) {
    const cgroup = join(controller, path);
    await mkdir(cgroup, { recursive: true, mode: 0o711 });
    await inheritProcessors(cgroup, controller);
    await enter(cgroup);
  }
}

async function enter(cgroup: string): Promise<void> {
  await writeFile(join(cgroup, "cgroup.procs"), String(process.pid));
}

/** A new cgroup has no processors and no memory nodes: it gets those of its parent, from the top down. */
async function inheritProcessors(cgroup: string, controller: string): Promise<void> {
  if (cgroup === controller || !existsSync(join(cgroup, "cpuset.cpus"))) {
    return;
  }
  const parent = dirname(cgroup);
  await inheritProcessors(parent, controller);
  for (const file of cpusetFiles) {
    if ((await readFile(join(cgroup, file), "utf8")).trim() === "") {
      await writeFile(join(cgroup, file), await readFile(join(parent, file)));
    }
  }
}
