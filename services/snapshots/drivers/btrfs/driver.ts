import { chmod, mkdir, statfs } from "node:fs/promises";
import { systemErrorCode } from "#base/errors.ts";
import { skipPlugin } from "#fleet/plugin.ts";
import { btrfsMagic, createSnapshot, createSubvolume, destroySubvolume, subvolumeId } from "#linux/btrfs.ts";
import type { Mount } from "#linux/mount.ts";
import { findMountOf } from "#linux/mount-info.ts";
import { DirectoryDriver, givingUpFirst } from "../directory-driver.ts";
import type { SnapshotDriver, SnapshotDriverDefinition, SnapshotLocation, SnapshotUsage } from "../driver.ts";
import { SnapshotDirectories } from "../snapshot-directories.ts";
import type { TreeWorkers } from "../trees.ts";
import { btrfsPlugin } from "./plugin.ts";

/**
 * Snapshots as subvolumes of btrfs: a child is a snapshot of its parent's, which costs nothing.
 *
 * `<root>/snapshots/<id>/fs` is the subvolume. That of a view is read-only.
 *
 * @source containerd v2.3.4 plugins/snapshots/btrfs/btrfs.go
 */
export const btrfsDriver: SnapshotDriverDefinition = {
  manifest: btrfsPlugin,
  open: async ({ root, settings, trees }) => {
    const directory = settings.string("root_path") || root;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const { type, source } = await findMountOf(directory);
    if ((await statfs(directory)).type !== btrfsMagic) {
      throw skipPlugin(`path ${directory} (${type}) must be a btrfs filesystem to be used with the btrfs snapshotter`);
    }
    return new BtrfsDriver(directory, source, await SnapshotDirectories.open(directory, withSubvolumes(trees)));
  },
};

class BtrfsDriver extends DirectoryDriver implements SnapshotDriver {
  readonly capabilities: readonly string[] = [];
  readonly #device: string;

  constructor(root: string, device: string, directories: SnapshotDirectories) {
    super(root, directories);
    this.#device = device;
  }

  create({ id, parentIds: [parentId], kind }: SnapshotLocation): Promise<void> {
    return this.directories.create(id, async (directory) => {
      const subvolume = `${directory}/fs`;
      if (parentId === undefined) {
        createSubvolume(subvolume);
        await chmod(subvolume, 0o755);
      } else {
        createSnapshot(`${await this.directories.require(parentId)}/fs`, subvolume, { readOnly: kind === "view" });
      }
    });
  }

  async mounts({ id, kind }: SnapshotLocation): Promise<Mount[]> {
    const options = [`subvolid=${subvolumeId(this.#subvolumeOf(id))}`, ...(kind === "view" ? ["ro"] : [])];
    return [{ type: "btrfs", source: this.#device, options }];
  }

  async measure({ id, parentIds: [parentId] }: SnapshotLocation): Promise<SnapshotUsage> {
    const base = parentId === undefined ? undefined : this.#subvolumeOf(parentId);
    return await this.directories.measure(id, this.#subvolumeOf(id), base);
  }

  #subvolumeOf(id: bigint): string {
    return `${this.directories.path(id)}/fs`;
  }
}

/** Deletes the subvolume in a directory at once; what subvolumes of a container are in it is left to the walk through the tree. */
function withSubvolumes(trees: TreeWorkers): TreeWorkers {
  return givingUpFirst(trees, (directory) => {
    try {
      destroySubvolume(`${directory}/fs`);
    } catch (error) {
      if (!["ENOENT", "ENOTDIR", "ENOTEMPTY", "EINVAL"].includes(systemErrorCode(error) ?? "")) {
        throw error;
      }
    }
  });
}
