import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execa } from "execa";
import { unmountRecursive } from "#linux/unmount.ts";
import { traces } from "./traces.ts";

/** A directory of a test's own, gone with all that is mounted in it when it is disposed of. */
export interface TemporaryDirectory extends AsyncDisposable {
  readonly path: string;
}

/**
 * Makes a directory `/tmp/flotilla-<name>-XXXXXX`. Keep the name short: sockets in it have 104 bytes for their whole path.
 *
 * @param parent - In place of `/tmp`.
 */
export async function makeTemporaryDirectory(name: string, parent = tmpdir()): Promise<TemporaryDirectory> {
  const path = await mkdtemp(join(parent, `flotilla-${name}-`));
  traces.directories.add(path);
  return { path, [Symbol.asyncDispose]: () => removeDirectory(path) };
}

/**
 * Takes off all mounts in a directory and removes it with all that is in it. Files on mounts that cannot be taken off stay.
 *
 * @throws An error that names what could not be removed.
 */
export async function removeDirectory(path: string): Promise<void> {
  await unmountRecursive(path, { detach: true });
  // Names that are no UTF-8 are beyond fs.rm.
  await execa("rm", ["--recursive", "--force", "--one-file-system", "--", path]);
}
