import { chmod, lchown, lstat, mkdir, readFile } from "node:fs/promises";
import { errorMessage } from "#base/errors.ts";
import { skipPlugin } from "#fleet/plugin.ts";
import type { Mount } from "#linux/mount.ts";
import { ProgramFailure } from "#linux/program.ts";
import { DirectoryDriver } from "../directory-driver.ts";
import type { SnapshotDriver, SnapshotDriverDefinition, SnapshotLocation, SnapshotUsage } from "../driver.ts";
import { machinePrograms, type Programs } from "../programs.ts";
import { SnapshotDirectories } from "../snapshot-directories.ts";
import { aufsPlugin } from "./plugin.ts";

/** What of the machine the driver sees, so that a test can stand in for it. */
export interface AufsKernel {
  readonly programs: Programs;
  /** The contents of /proc/filesystems. */
  listFileSystems(): Promise<string>;
}

/** Opens the driver. @param kernel - The machine's, or one that records. */
export function openAufs(kernel: AufsKernel): SnapshotDriverDefinition["open"] {
  return async ({ root, settings, trees }) => {
    await requireAufs(kernel);
    const directory = settings.string("root_path") || root;
    return new AufsDriver(directory, await SnapshotDirectories.open(directory, trees));
  };
}

/**
 * Snapshots as branches of aufs: a snapshot holds what it changes of its parents. `<root>/snapshots/<id>/fs` holds the files.
 *
 * @source containerd/aufs v1 aufs.go
 */
export const aufsDriver: SnapshotDriverDefinition = {
  manifest: aufsPlugin,
  open: openAufs({ programs: machinePrograms, listFileSystems: () => readFile("/proc/filesystems", "utf8") }),
};

class AufsDriver extends DirectoryDriver implements SnapshotDriver {
  readonly capabilities: readonly string[] = [];

  create({ id, parentIds: [parentId] }: SnapshotLocation): Promise<void> {
    return this.directories.create(id, async (directory) => {
      const files = `${directory}/fs`;
      await mkdir(files);
      await chmod(files, 0o755);
      if (parentId !== undefined) {
        await this.directories.require(parentId);
        const { uid, gid } = await lstat(this.#filesOf(parentId));
        await lchown(files, uid, gid);
      }
    });
  }

  async mounts({ id, parentIds, kind }: SnapshotLocation): Promise<Mount[]> {
    const [nearest] = parentIds;
    const flag = kind === "view" ? "ro" : "rw";
    if (nearest === undefined) {
      return [{ type: "bind", source: this.#filesOf(id), options: [flag, "rbind"] }];
    }
    if (kind === "view" && parentIds.length === 1) {
      return [{ type: "bind", source: this.#filesOf(nearest), options: ["ro", "rbind"] }];
    }
    // The topmost branch takes what is written; whiteouts below it count.
    const own = kind === "view" ? [] : [`${this.#filesOf(id)}=rw`];
    const branches = [...own, ...parentIds.map((parentId) => `${this.#filesOf(parentId)}=ro+wh`)];
    return [
      {
        type: "aufs",
        source: "none",
        options: [`br:${branches.join(":")}`, "dio", "xino=/dev/shm/aufs.xino", "dirperm1"],
      },
    ];
  }

  async measure({ id }: SnapshotLocation): Promise<SnapshotUsage> {
    return await this.directories.measure(id, this.#filesOf(id));
  }

  #filesOf(id: bigint): string {
    return `${this.directories.path(id)}/fs`;
  }
}

/**
 * Makes sure that the kernel has aufs, by loading it.
 *
 * @throws A skip in the words that containerd 1.7 had.
 * @source containerd/aufs v1 aufs.go `supported`
 */
async function requireAufs(kernel: AufsKernel): Promise<void> {
  try {
    await kernel.programs("modprobe", "aufs");
  } catch (error) {
    const { cause } = error as Error;
    const said = cause instanceof ProgramFailure ? cause.output.stderr.toString() : "";
    const ended = cause instanceof ProgramFailure ? errorMessage(cause) : errorMessage(error);
    throw skipPlugin(`aufs is not supported (modprobe aufs failed: ${ended} ${JSON.stringify(said)})`);
  }
  if (!(await kernel.listFileSystems()).includes("\taufs\n")) {
    throw skipPlugin("aufs is not supported");
  }
}
