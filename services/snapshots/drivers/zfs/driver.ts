import { mkdir, writeFile } from "node:fs/promises";
import { readFileIfThere } from "#base/durable-file.ts";
import { errorMessage } from "#base/errors.ts";
import { skipPlugin } from "#fleet/plugin.ts";
import type { Mount } from "#linux/mount.ts";
import { findMountOf } from "#linux/mount-info.ts";
import { DirectoryDriver, givingUpFirst } from "../directory-driver.ts";
import type { SnapshotDriver, SnapshotDriverDefinition, SnapshotLocation, SnapshotUsage } from "../driver.ts";
import { machinePrograms, type Programs } from "../programs.ts";
import { SnapshotDirectories } from "../snapshot-directories.ts";
import type { TreeWorkers } from "../trees.ts";
import { zfsPlugin } from "./plugin.ts";

/** What of the machine the driver sees, so that a test can stand in for it. */
export interface ZfsKernel {
  readonly programs: Programs;
  /** The type of the file system that a directory is on, and its source: of ZFS the dataset. */
  findMount(directory: string): Promise<{ readonly type: string; readonly source: string }>;
}

/** Name of the snapshot of a dataset that is committed. @source containerd/zfs v2 zfs.go `snapshotSuffix` */
const snapshotName = "snapshot";

/** Opens the driver. @param kernel - The machine's, or one that records. */
export function openZfs(kernel: ZfsKernel): SnapshotDriverDefinition["open"] {
  return async ({ root, settings, trees }) => {
    const directory = settings.string("root_path") || root;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const { type, source } = await kernel.findMount(directory);
    if (type !== "zfs") {
      throw skipPlugin(`path ${directory} must be a zfs filesystem to be used with the zfs snapshotter`);
    }
    const datasets = new Datasets(source, kernel.programs);
    const directories = await SnapshotDirectories.open(directory, withDatasets(trees, datasets));
    return new ZfsDriver(directory, directories, datasets);
  };
}

/**
 * Snapshots as datasets of ZFS below the one that the root is on. A committed one has a snapshot, `<dataset>/<id>@snapshot`, of which its
 * children are clones.
 *
 * `<root>/snapshots/<id>/dataset` holds the id from before the dataset is made until after it is destroyed.
 *
 * @source containerd/zfs v2 zfs.go
 */
export const zfsDriver: SnapshotDriverDefinition = {
  manifest: zfsPlugin,
  open: openZfs({ programs: machinePrograms, findMount: findMountOf }),
};

/** The datasets of snapshots, by the program zfs. */
class Datasets {
  readonly #parent: string;
  readonly #programs: Programs;

  constructor(parent: string, programs: Programs) {
    this.#parent = parent;
    this.#programs = programs;
  }

  nameOf(id: bigint): string {
    return `${this.#parent}/${id}`;
  }

  async create(id: bigint): Promise<void> {
    await this.#programs("zfs", "create", "-o", "mountpoint=legacy", this.nameOf(id));
  }

  async clone(id: bigint, parentId: bigint, { readOnly }: { readonly readOnly: boolean }): Promise<void> {
    const options = ["-o", "mountpoint=legacy", ...(readOnly ? ["-o", "readonly=on"] : [])];
    await this.#programs("zfs", "clone", ...options, `${this.nameOf(parentId)}@${snapshotName}`, this.nameOf(id));
  }

  /** Keeps what a dataset has now; what was kept before is forgotten. */
  async snapshot(id: bigint): Promise<void> {
    const name = `${this.nameOf(id)}@${snapshotName}`;
    try {
      await this.#programs("zfs", "destroy", name);
    } catch (error) {
      if (!isAbsence(error)) {
        throw error;
      }
    }
    await this.#programs("zfs", "snapshot", name);
  }

  async usedBytes(id: bigint): Promise<bigint> {
    return BigInt(await this.#programs("zfs", "get", "-Hp", "-o", "value", "used", this.nameOf(id)));
  }

  async destroy(id: bigint): Promise<void> {
    try {
      await this.#programs("zfs", "destroy", "-r", this.nameOf(id));
    } catch (error) {
      if (!isAbsence(error)) {
        throw error;
      }
    }
  }
}

class ZfsDriver extends DirectoryDriver implements SnapshotDriver {
  readonly capabilities: readonly string[] = [];
  readonly #datasets: Datasets;

  constructor(root: string, directories: SnapshotDirectories, datasets: Datasets) {
    super(root, directories);
    this.#datasets = datasets;
  }

  create({ id, parentIds: [parentId], kind }: SnapshotLocation): Promise<void> {
    return this.directories.create(id, async (directory) => {
      if (parentId !== undefined) {
        await this.directories.require(parentId);
      }
      await writeFile(`${directory}/dataset`, String(id), { flush: true, mode: 0o600 });
      await (parentId === undefined
        ? this.#datasets.create(id)
        : this.#datasets.clone(id, parentId, { readOnly: kind === "view" }));
    });
  }

  async mounts({ id, kind }: SnapshotLocation): Promise<Mount[]> {
    return [{ type: "zfs", source: this.#datasets.nameOf(id), options: kind === "view" ? ["ro"] : [] }];
  }

  async seal({ id }: SnapshotLocation): Promise<void> {
    await this.directories.require(id);
    await this.#datasets.snapshot(id);
  }

  async measure({ id }: SnapshotLocation): Promise<SnapshotUsage> {
    await this.directories.require(id);
    return { sizeBytes: await this.#datasets.usedBytes(id), inodes: 0n };
  }
}

/** Destroys datasets before the directories that lead to them. */
function withDatasets(trees: TreeWorkers, datasets: Datasets): TreeWorkers {
  return givingUpFirst(trees, async (directory) => {
    const id = await readFileIfThere(`${directory}/dataset`);
    if (id !== undefined && /^\d+$/.test(id)) {
      await datasets.destroy(BigInt(id));
    }
  });
}

function isAbsence(error: unknown): boolean {
  return /does not exist|could not find any snapshots to destroy/.test(errorMessage(error));
}
