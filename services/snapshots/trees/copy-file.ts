import { fstatSync, fsyncSync } from "node:fs";
import { toByteString } from "#linux/bytes.ts";
import { closeFile, OpenFlag, openAt, succeed, workingDirectory } from "#linux/file.ts";
import { copyContent } from "#linux/file-data.ts";

/**
 * Copies a regular file to a place where nothing is, holes as holes, and flushes it. Blocks are shared where the file system can.
 *
 * Makes system calls without a pause, for a thread of its own.
 *
 * @throws {@link SystemError}; what is at the target then is incomplete.
 */
export function copyFile(source: string, target: string): undefined {
  const open = (path: string, flags: number): number =>
    succeed(openAt(workingDirectory, toByteString(path), flags, 0o600), () => `failed to open ${path}`);
  const from = open(source, OpenFlag.ReadOnly);
  try {
    const to = open(target, OpenFlag.ReadWrite | OpenFlag.Create | OpenFlag.Exclusive);
    try {
      copyContent(from, to, fstatSync(from).size, () => `copy ${source} to ${target}`);
      fsyncSync(to);
    } finally {
      closeFile(to);
    }
  } finally {
    closeFile(from);
  }
}
