import { mkdir, truncate, writeFile } from "node:fs/promises";
import { execa } from "execa";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";

/** Room for what both daemons write in all rounds; the file takes what is used. */
const sizeBytes = 16 * 1024 ** 3;

/** An empty file system, gone when it is disposed of. */
export interface BenchFileSystem extends AsyncDisposable {
  readonly path: string;
}

/** What a file system is to be like. */
export interface FileSystemOptions {
  readonly type?: "ext4" | "btrfs";
  /** Files that an ext4 has room for, in place of what its size suggests. */
  readonly inodes?: number;
}

/**
 * Makes a file system, by default an ext4 with a journal, for daemons that write and delete many files.
 *
 * An ext4 without one, as small virtual machines have, passes over the inodes of files that were deleted in the last minute, one by
 * one: after an image has been removed, making files takes several times as long, for whoever is measured next.
 *
 * @source linux fs/ext4/ialloc.c `recently_deleted`
 */
export async function makeFileSystem({ type = "ext4", inodes }: FileSystemOptions = {}): Promise<BenchFileSystem> {
  await using resources = new AsyncDisposableStack();
  const directory = resources.use(await makeTemporaryDirectory("fs"));
  const image = `${directory.path}/image`;
  const path = `${directory.path}/m`;
  await writeFile(image, "");
  await truncate(image, sizeBytes);
  // All of it is made now, and not by the kernel while something is measured.
  const whole = ["-E", "lazy_itable_init=0,lazy_journal_init=0"];
  const count = inodes === undefined ? [] : ["-N", String(inodes)];
  await execa(`/usr/sbin/mkfs.${type}`, ["-q", ...(type === "ext4" ? [...whole, ...count] : []), image]);
  await mkdir(path);
  await execa("mount", ["-o", "loop", image, path]);
  const owned = resources.move();
  return { path, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}
