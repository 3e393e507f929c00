import { lstatSync, readdirSync, type Stats } from "node:fs";
import { systemErrorCode } from "#base/errors.ts";
import type { DiskFacts } from "./du-report.ts";

/** @source stat(2) `st_blocks` */
const blockBytes = 512;

/**
 * Counts the blocks of a directory and of each directory in it, as `du --one-file-system` does: what has several names counts once, where
 * it is met first. What goes meanwhile is passed over.
 *
 * Makes system calls without a pause, for a program that does nothing else.
 *
 * @throws the system's error when the directory itself cannot be read.
 */
export function measureDisk(root: string): DiskFacts {
  const seen = new Set<string>();
  const { dev } = lstatSync(root);
  const count = (path: Buffer, status: Stats): number => {
    if (status.dev !== dev) {
      return 0;
    }
    if (status.nlink > 1 && !status.isDirectory()) {
      if (seen.has(String(status.ino))) {
        return 0;
      }
      seen.add(String(status.ino));
    }
    let bytes = status.blocks * blockBytes;
    if (status.isDirectory()) {
      for (const name of namesIn(path)) {
        const below = Buffer.concat([path, slash, name]);
        const found = findStatus(below);
        bytes += found === undefined ? 0 : count(below, found);
      }
    }
    return bytes;
  };
  const directories = new Map<string, number>();
  let totalBytes = lstatSync(root).blocks * blockBytes;
  for (const name of readdirSync(root)) {
    const path = Buffer.from(`${root}/${name}`);
    const status = findStatus(path);
    const bytes = status === undefined ? 0 : count(path, status);
    totalBytes += bytes;
    if (status?.isDirectory() === true) {
      directories.set(name, bytes);
    }
  }
  return { directories, totalBytes };
}

const slash = Buffer.from("/");

function namesIn(directory: Buffer): Buffer[] {
  try {
    return readdirSync(directory, { encoding: "buffer" });
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "ENAMETOOLONG"].includes(systemErrorCode(error) ?? "")) {
      return [];
    }
    throw error;
  }
}

function findStatus(path: Buffer): Stats | undefined {
  try {
    return lstatSync(path);
  } catch (error) {
    if (["ENOENT", "ENOTDIR", "ENAMETOOLONG"].includes(systemErrorCode(error) ?? "")) {
      return undefined;
    }
    throw error;
  }
}
