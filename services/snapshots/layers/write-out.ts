import { toByteString } from "#linux/bytes.ts";
import { closeFile, OpenFlag, openAt, succeed, syncFileSystem, workingDirectory } from "#linux/file.ts";

/**
 * Writes out the file system that a directory is on, so that all that was done in it outlasts a loss of power.
 *
 * @throws {@link SystemError}
 * @source containerd v2.3.4 core/diff/apply/apply_linux.go `doSyncFs`
 */
export function writeOut(root: string): void {
  const descriptor = succeed(
    openAt(workingDirectory, toByteString(root), OpenFlag.ReadOnly | OpenFlag.Directory),
    () => `failed to open ${root}`,
  );
  try {
    succeed(syncFileSystem(descriptor), () => `failed to syncfs for ${root}`);
  } finally {
    closeFile(descriptor);
  }
}
