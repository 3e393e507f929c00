import { type ByteString, toByteString } from "#linux/bytes.ts";
import { closeFile, OpenFlag, openAt, openResolved, Resolve, succeed, workingDirectory } from "#linux/file.ts";
import { LowerDirectories } from "./lower-directories.ts";
import { writeOut } from "./write-out.ts";

/** Directories to complete. Made of plain data, so that it can go to another thread. */
export interface AdoptJob {
  /** An upper directory of an overlay. */
  readonly root: string;
  /** The directories that have come to lie below it, topmost first. */
  readonly lowers: readonly string[];
  /** Directories in it that its layer did not describe. */
  readonly paths: readonly ByteString[];
  /** Write out the file system before success is told. */
  readonly syncFileSystem: boolean;
}

/**
 * Gives directories that a layer implied owner, mode, times and attributes of those that they lie over, as if the layer had been applied
 * on top of them from the start: an overlay shows the attributes of the upper directory. What is no directory any more is left alone.
 *
 * @throws {@link SystemError}
 * @source containerd v2.3.4 pkg/archive/tar.go `mkparent`
 */
export function adoptDirectories({ root, lowers, paths, syncFileSystem }: AdoptJob): undefined {
  const flags = OpenFlag.ReadOnly | OpenFlag.Directory;
  const models = new LowerDirectories(lowers.map(toByteString));
  const top = openAt(workingDirectory, toByteString(root), flags);
  try {
    succeed(top, () => `open ${root}`);
    for (const path of paths) {
      const descriptor = openResolved(top, path, flags | OpenFlag.NoFollow, Resolve.InRoot | Resolve.NoSymlinks);
      if (descriptor >= 0) {
        try {
          models.copyAttributes(path, descriptor);
        } finally {
          closeFile(descriptor);
        }
      }
    }
  } finally {
    models.close();
    closeFile(top);
  }
  if (syncFileSystem) {
    writeOut(root);
  }
}
