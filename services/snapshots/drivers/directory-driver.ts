import type { SnapshotDirectories } from "./snapshot-directories.ts";
import type { TreeWorkers } from "./trees.ts";

/** What drivers have in common whose snapshots are directories, or are found by them. */
export abstract class DirectoryDriver {
  readonly root: string;
  protected readonly directories: SnapshotDirectories;

  constructor(root: string, directories: SnapshotDirectories) {
    this.root = root;
    this.directories = directories;
  }

  listIds(): Promise<bigint[]> {
    return this.directories.list();
  }

  putAside(ids: readonly bigint[]): Promise<string> {
    return this.directories.putAside(ids);
  }

  remove(ids: readonly bigint[]): Promise<void> {
    return this.directories.remove(ids);
  }
}

/**
 * The same workers, which give up what a directory leads to before they delete it.
 *
 * @param giveUp - May find nothing, be it since it is called again after a crash.
 */
export function givingUpFirst(trees: TreeWorkers, giveUp: (directory: string) => Promise<void> | void): TreeWorkers {
  return {
    measure: (root, base) => trees.measure(root, base),
    copy: (source, target) => trees.copy(source, target),
    copyFile: (source, target) => trees.copyFile(source, target),
    remove: async (paths) => {
      for (const path of paths) {
        await giveUp(path);
      }
      await trees.remove(paths);
    },
  };
}
