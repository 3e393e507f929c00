import { mkdir, readFile, rmdir, writeFile } from "node:fs/promises";
import { readFileIfThere } from "#base/durable-file.ts";
import { type Mount, mountAll } from "#linux/mount.ts";
import { unmountAll } from "#linux/unmount.ts";
import { DirectoryDriver, givingUpFirst } from "../directory-driver.ts";
import type { SnapshotDriver, SnapshotDriverDefinition, SnapshotLocation, SnapshotUsage } from "../driver.ts";
import { machinePrograms, type Programs } from "../programs.ts";
import { SnapshotDirectories } from "../snapshot-directories.ts";
import type { TreeWorkers } from "../trees.ts";
import { type DevmapperConfig, readDevmapperConfig, type VolumeType } from "./config.ts";
import { devmapperPlugin } from "./plugin.ts";
import { ThinPool } from "./thin-pool.ts";

/** The volumes of a pool and the file systems on them, so that a test can stand in for the kernel. */
export interface VolumeKernel {
  readonly programs: Programs;
  /** Removes what a new file system has and an image does not expect. */
  clear(mount: Mount, directory: string): Promise<void>;
}

const machine: VolumeKernel = { programs: machinePrograms, clear: removeLostAndFound };

/** Opens the driver. @param kernel - The machine's, or one that records. */
export function openDevmapper(kernel: VolumeKernel): SnapshotDriverDefinition["open"] {
  return async ({ root, settings, trees }) => {
    const config = readDevmapperConfig(root, settings);
    const pool = new ThinPool(config.pool, { programs: kernel.programs, sizeBytes: config.sizeBytes });
    await pool.require();
    const directories = await SnapshotDirectories.open(config.root, withVolumes(trees, pool, config));
    return new DevmapperDriver(config, { directories, pool, kernel });
  };
}

/**
 * Snapshots as volumes of a thin pool, with a file system on each.
 *
 * `<root>/snapshots/<id>/` has `volume`, the type of the file system, from before the volume is made until after it is deleted: so a directory
 * that a crash has left half made or half removed leads to its volume. `mapped` is what a committed one takes, with its ancestors.
 *
 * @source containerd v2.3.4 plugins/snapshots/devmapper/snapshotter.go
 */
export const devmapperDriver: SnapshotDriverDefinition = { manifest: devmapperPlugin, open: openDevmapper(machine) };

class DevmapperDriver extends DirectoryDriver implements SnapshotDriver {
  readonly capabilities: readonly string[] = [];
  readonly #config: DevmapperConfig;
  readonly #pool: ThinPool;
  readonly #kernel: VolumeKernel;

  constructor(
    config: DevmapperConfig,
    parts: { readonly directories: SnapshotDirectories; readonly pool: ThinPool; readonly kernel: VolumeKernel },
  ) {
    super(config.root, parts.directories);
    this.#config = config;
    this.#pool = parts.pool;
    this.#kernel = parts.kernel;
  }

  create({ id, parentIds: [parentId] }: SnapshotLocation): Promise<void> {
    return this.directories.create(id, async (directory) => {
      const type =
        parentId === undefined
          ? this.#config.type
          : await typeIn(await this.directories.require(parentId), this.#config.type);
      await writeFile(`${directory}/volume`, `${id} ${type}`, { flush: true, mode: 0o600 });
      if (parentId === undefined) {
        await this.#pool.createVolume(id);
        await this.#makeFileSystem(id, type, directory);
      } else {
        await this.#pool.createSnapshot(id, parentId);
        // Nothing is read from a committed one any more.
        await this.#pool.deactivate(parentId);
      }
    });
  }

  async mounts({ id, kind }: SnapshotLocation): Promise<Mount[]> {
    const type = await typeIn(await this.directories.require(id), this.#config.type);
    // After a reboot there are no block devices.
    await this.#pool.activate(id);
    const options = [...(type === "xfs" ? ["nouuid"] : []), ...(kind === "view" ? ["ro"] : [])];
    return [{ type, source: this.#pool.pathOf(id), options }];
  }

  async seal({ id }: SnapshotLocation): Promise<void> {
    const directory = await this.directories.require(id);
    await this.#pool.activate(id);
    await this.#pool.flush(id);
    await writeFile(`${directory}/mapped`, String(await this.#pool.mappedBytes(id)), { mode: 0o600 });
  }

  async measure({ id, parentIds: [parentId] }: SnapshotLocation): Promise<SnapshotUsage> {
    await this.directories.require(id);
    await this.#pool.activate(id);
    const own = await this.#pool.mappedBytes(id);
    const inherited = parentId === undefined ? 0n : await this.#mappedBefore(parentId);
    return { sizeBytes: own > inherited ? own - inherited : 0n, inodes: 0n };
  }

  async #mappedBefore(id: bigint): Promise<bigint> {
    return BigInt((await readFileIfThere(`${this.directories.path(id)}/mapped`)) ?? "0");
  }

  async #makeFileSystem(id: bigint, type: VolumeType, directory: string): Promise<void> {
    const path = this.#pool.pathOf(id);
    const { options } = this.#config;
    // Lazily made tables would be written in every child again.
    const extended = type === "ext4" && options === "" ? "nodiscard,lazy_itable_init=0,lazy_journal_init=0" : options;
    const args = type === "xfs" || extended === "" ? [path] : ["-E", extended, path];
    await this.#kernel.programs(`mkfs.${type}`, ...args);
    await this.#kernel.clear({ type, source: path, options: [] }, `${directory}/clearing`);
  }
}

/** The type of the file system of a snapshot. */
async function typeIn(directory: string, fallback: VolumeType): Promise<VolumeType> {
  const type = (await readFile(`${directory}/volume`, "utf8")).split(" ")[1];
  return type === "ext4" || type === "ext2" || type === "xfs" ? type : fallback;
}

/** Deletes volumes before the directories that lead to them. */
function withVolumes(trees: TreeWorkers, pool: ThinPool, { discards }: DevmapperConfig): TreeWorkers {
  return givingUpFirst(trees, async (directory) => {
    const id = /^\d+/.exec((await readFileIfThere(`${directory}/volume`)) ?? "")?.[0];
    if (id !== undefined) {
      await pool.delete(BigInt(id), { discards });
    }
  });
}

async function removeLostAndFound(mount: Mount, directory: string): Promise<void> {
  await mkdir(directory, { mode: 0o700 });
  try {
    await mountAll([mount], directory);
    await rmdir(`${directory}/lost+found`).catch(() => undefined);
  } finally {
    await unmountAll(directory);
    await rmdir(directory);
  }
}
