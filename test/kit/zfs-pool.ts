import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import { execa } from "execa";

const environment = { ...process.env, PATH: `${process.env["PATH"]}:/usr/sbin:/sbin` };

/** Why pools of ZFS cannot be made here, or false. */
export async function lacksZfs(): Promise<string | false> {
  if (!(await readFile("/proc/filesystems", "utf8")).split(/\s/).includes("zfs")) {
    return "the kernel has no zfs";
  }
  const { exitCode } = await execa("zpool", ["list"], { env: environment, reject: false });
  return exitCode !== 0 && "zfs is not installed";
}

/**
 * Makes a pool of a file, mounted at `<directory>/pool`.
 *
 * @param resources - Takes it away with all its datasets.
 * @returns Where it is mounted.
 */
export async function makeZfsPool(directory: string, resources: AsyncDisposableStack): Promise<string> {
  const [name, disk, mounted] = [basename(directory), `${directory}/disk`, `${directory}/pool`];
  const run = async (program: string, ...args: string[]): Promise<string> =>
    (await execa(program, args, { env: environment })).stdout;
  await run("truncate", "--size=1G", disk);
  // A file would be opened by threads of the kernel, for whom the root may be another one.
  const device = await run("losetup", "--find", "--show", disk);
  resources.defer(async () => {
    await run("losetup", "--detach", device);
  });
  await run("zpool", "create", "-m", mounted, name, device);
  resources.defer(async () => {
    await run("zpool", "destroy", "-f", name);
  });
  return mounted;
}
