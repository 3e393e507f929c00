import { rmdir } from "node:fs/promises";
import { join } from "node:path";
import { readMountInfo } from "./mount-info.ts";

/**
 * Directories of a cgroup, one for each hierarchy that is mounted here, whether they are there or not.
 *
 * @param path - Path below the root of a hierarchy, such as `/default/web`. It leads out of none, whatever it says.
 * @source cgroups(7)
 */
export async function cgroupDirectories(path: string): Promise<string[]> {
  const mounts = await readMountInfo();
  const hierarchies = mounts.filter(({ type }) => type === "cgroup" || type === "cgroup2");
  return hierarchies.map(({ mountPoint }) => join(mountPoint, join("/", path)));
}

/**
 * Removes one directory of a cgroup that holds nothing.
 *
 * @returns What keeps it: `gone` for nothing, `in use` when processes or cgroups are in it.
 * @throws The error of `node:fs` for any other reason.
 */
export async function removeCgroup(directory: string): Promise<"gone" | "in use"> {
  try {
    await rmdir(directory);
    return "gone";
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") {
      return "gone";
    }
    if (code === "EBUSY") {
      return "in use";
    }
    throw error;
  }
}
