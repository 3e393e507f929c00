import { chmod } from "node:fs/promises";
import type { Mount } from "#linux/mount.ts";
import { DirectoryDriver } from "../directory-driver.ts";
import type { SnapshotDriver, SnapshotDriverDefinition, SnapshotLocation, SnapshotUsage } from "../driver.ts";
import { SnapshotDirectories } from "../snapshot-directories.ts";
import type { TreeWorkers } from "../trees.ts";
import { nativePlugin } from "./plugin.ts";

/**
 * Snapshots as full copies of their parents: works on every file system, and costs the whole tree for each active snapshot.
 *
 * `<root>/snapshots/<id>` is the tree itself. A view of a parent has an empty directory, so that each id has one, and shows the
 * parent's.
 *
 * @source containerd v2.3.4 plugins/snapshots/native/native.go
 */
export const nativeDriver: SnapshotDriverDefinition = {
  manifest: nativePlugin,
  open: async ({ root, settings, trees }) => {
    const directory = settings.string("root_path") || root;
    return new NativeDriver(directory, await SnapshotDirectories.open(directory, trees), trees);
  },
};

class NativeDriver extends DirectoryDriver implements SnapshotDriver {
  readonly capabilities: readonly string[] = [];
  readonly #trees: TreeWorkers;

  constructor(root: string, directories: SnapshotDirectories, trees: TreeWorkers) {
    super(root, directories);
    this.#trees = trees;
  }

  create({ id, parentIds: [parentId], kind }: SnapshotLocation): Promise<void> {
    return this.directories.create(id, async (directory) => {
      if (parentId === undefined || kind === "view") {
        await chmod(directory, 0o755);
      } else {
        await this.#trees.copy(await this.directories.require(parentId), directory);
      }
    });
  }

  async mounts({ id, parentIds: [parentId], kind }: SnapshotLocation): Promise<Mount[]> {
    const shown = kind === "view" && parentId !== undefined ? parentId : id;
    return [{ type: "bind", source: this.directories.path(shown), options: ["rbind", kind === "view" ? "ro" : "rw"] }];
  }

  async measure({ id }: SnapshotLocation): Promise<SnapshotUsage> {
    return await this.directories.measure(id, this.directories.path(id));
  }
}
