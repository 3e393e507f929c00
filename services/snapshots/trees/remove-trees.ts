import { basename, dirname } from "node:path";
import { toByteString } from "#linux/bytes.ts";
import { removeTreeAt } from "#linux/directory.ts";
import { closeFile, OpenFlag, openAt, succeed, workingDirectory } from "#linux/file.ts";

/**
 * Deletes directory trees. Paths that are not there are passed over. Does not follow links and does not enter other mounts.
 *
 * Makes system calls without a pause, for a thread of its own.
 *
 * @throws {@link SystemError} the first failure, after having deleted all other trees.
 */
export function removeTrees(paths: readonly string[]): undefined {
  const failures: unknown[] = [];
  for (const path of paths) {
    try {
      removeTree(path);
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) {
    throw failures[0];
  }
}

function removeTree(path: string): void {
  const flags = OpenFlag.Path | OpenFlag.Directory;
  const parent = succeed(openAt(workingDirectory, toByteString(dirname(path)), flags), () => `open ${dirname(path)}`);
  try {
    removeTreeAt(parent, toByteString(basename(path)));
  } finally {
    closeFile(parent);
  }
}
