import { lstat, mkdir, rename, rm } from "node:fs/promises";
import { syncDirectory } from "#base/durable-file.ts";
import { ErrorKind, errorMessage, FlotillaError, wrapFailure } from "#base/errors.ts";
import { exists } from "#base/exists.ts";
import type { PluginSettings } from "#config/settings.ts";
import { skipPlugin } from "#fleet/plugin.ts";
import { syncAllFileSystems } from "#linux/file.ts";
import { isStillWritten } from "#linux/loop-device.ts";
import type { Mount } from "#linux/mount.ts";
import { DirectoryDriver } from "../directory-driver.ts";
import type { SnapshotDriver, SnapshotDriverDefinition, SnapshotLocation, SnapshotUsage } from "../driver.ts";
import { SnapshotDirectories } from "../snapshot-directories.ts";
import type { TreeWorkers } from "../trees.ts";
import { blockfilePlugin } from "./plugin.ts";

/** @source linux/stat.h `st_blocks` */
const blockBytes = 512;
/** Longer than the start of a container takes, and nothing that a client who commits what somebody has mounted takes for a hang. */
const settleMsMax = 5_000;

/**
 * Snapshots as files with a file system in each, which is mounted through a loop device. A child is a copy of its parent's file; blocks are
 * shared where the file system below can, and holes stay holes.
 *
 * `<root>/scratch` is the empty file system, `<root>/snapshots/<id>/image` that of a snapshot. A view of a parent has an empty directory
 * and shows the parent's.
 *
 * @source containerd v2.3.4 plugins/snapshots/blockfile/blockfile.go
 */
export const blockfileDriver: SnapshotDriverDefinition = {
  manifest: blockfilePlugin,
  open: async ({ root, settings, trees }) => {
    const directory = settings.string("root_path") || root;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await prepareScratch(`${directory}/scratch`, settings, trees);
    const type = settings.string("fs_type") || "ext4";
    const options = new Set([...settings.strings("mount_options"), "loop"]);
    if (type === "xfs") {
      // Copies have the identity of what they are copies of, and XFS mounts no two of them at a time otherwise.
      options.add("nouuid");
    }
    return new BlockfileDriver(directory, await SnapshotDirectories.open(directory, trees), trees, {
      type,
      options: [...options],
    });
  },
};

class BlockfileDriver extends DirectoryDriver implements SnapshotDriver {
  readonly capabilities: readonly string[] = [];
  readonly #trees: TreeWorkers;
  readonly #mount: Pick<Mount, "type" | "options">;

  constructor(
    root: string,
    directories: SnapshotDirectories,
    trees: TreeWorkers,
    mount: Pick<Mount, "type" | "options">,
  ) {
    super(root, directories);
    this.#trees = trees;
    this.#mount = mount;
  }

  create({ id, parentIds: [parentId], kind }: SnapshotLocation): Promise<void> {
    return this.directories.create(id, async (directory) => {
      if (parentId === undefined) {
        await this.#copy(`${this.root}/scratch`, directory, "scratch");
      } else if (kind === "active") {
        await this.#copy(`${await this.directories.require(parentId)}/image`, directory, "parent");
      }
    });
  }

  /**
   * What was written to the file system is whole in its file when the last mount of it is gone, and until then the file can be recovered, but not
   * be shown read-only. The last may be that of a container that is being started, which has all mounts of the machine until it has its own root.
   */
  async seal({ id }: SnapshotLocation): Promise<void> {
    await this.directories.require(id);
    if (await isStillWritten(this.#imageOf(id), settleMsMax)) {
      await syncAllFileSystems();
    }
  }

  async mounts({ id, parentIds: [parentId], kind }: SnapshotLocation): Promise<Mount[]> {
    const { type, options } = this.#mount;
    const shown = kind === "view" && parentId !== undefined ? parentId : id;
    return [{ type, source: this.#imageOf(shown), options: [...options, kind === "view" ? "ro" : "rw"] }];
  }

  /** What the file takes, less what its parent's takes: most of it is the same. */
  async measure({ id, parentIds: [parentId] }: SnapshotLocation): Promise<SnapshotUsage> {
    const own = await this.#blocksOf(id);
    const inherited = parentId === undefined ? 0 : await this.#blocksOf(parentId);
    return { sizeBytes: BigInt(Math.max(0, own - inherited)) * BigInt(blockBytes), inodes: 1n };
  }

  async #copy(source: string, directory: string, what: string): Promise<void> {
    try {
      await this.#trees.copyFile(source, `${directory}/image`);
    } catch (error) {
      throw wrapFailure(error, `copying of ${what} failed`);
    }
  }

  async #blocksOf(id: bigint): Promise<number> {
    await this.directories.require(id);
    return (await lstat(this.#imageOf(id))).blocks;
  }

  #imageOf(id: bigint): string {
    return `${this.directories.path(id)}/image`;
  }
}

/** Takes over the file that every first snapshot is a copy of. */
async function prepareScratch(path: string, settings: PluginSettings, trees: TreeWorkers): Promise<void> {
  if (!settings.boolean("recreate_scratch") && (await exists(path))) {
    return;
  }
  const source = settings.string("scratch_file");
  if (source === "") {
    throw skipPlugin("no scratch file generator");
  }
  const half = `${path}.new`;
  try {
    await rm(half, { force: true });
    await trees.copyFile(source, half);
    await rename(half, path);
    await syncDirectory(path.slice(0, path.lastIndexOf("/")));
  } catch (error) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `failed to generate scratch file: failed to copy scratch: ${errorMessage(error)}`,
      { cause: error },
    );
  }
}
