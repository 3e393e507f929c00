import { readFile } from "node:fs/promises";
import { execa } from "execa";

/** Why file systems of a type cannot be made and mounted here, or false. */
export async function lacksFileSystem(type: string): Promise<string | false> {
  if (process.geteuid?.() !== 0) {
    return "mounts need root";
  }
  if (!(await readFile("/proc/filesystems", "utf8")).split(/\s/).includes(type)) {
    return `the kernel has no ${type}`;
  }
  const environment = { ...process.env, PATH: `${process.env["PATH"]}:/usr/sbin:/sbin` };
  const { exitCode } = await execa("sh", ["-c", `command -v mkfs.${type}`], { reject: false, env: environment });
  return exitCode !== 0 ? `mkfs.${type} is not installed` : false;
}
