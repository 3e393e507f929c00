import { closeSync, fsync, openSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { promisify } from "node:util";
import { systemErrorCode } from "./errors.ts";

/** Of all that is done here the only thing that waits for the disk; the rest would take longer to hand to a thread than it takes. */
const sync = promisify(fsync);

/** Makes the entries of a directory durable. @source fsync(2), notes on directories */
export async function syncDirectory(path: string): Promise<void> {
  const directory = openSync(path, "r");
  try {
    await sync(directory);
  } finally {
    closeSync(directory);
  }
}

/**
 * Replaces a small file. After a crash there is the old one or the new one, and once this has resolved it is the new one. Two replacements of
 * one file at a time are a bug.
 *
 * @param mode - Permission bits, less the umask.
 */
export async function replaceFile(path: string, text: string, { mode }: { readonly mode: number }): Promise<void> {
  const temporary = `${path}.new`;
  rmSync(temporary, { force: true });
  const file = openSync(temporary, "wx", mode);
  try {
    writeFileSync(file, text);
    await sync(file);
  } finally {
    closeSync(file);
  }
  renameSync(temporary, path);
  await syncDirectory(dirname(path));
}

/** Reads a text file; undefined when there is none. */
export async function readFileIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") {
      return undefined;
    }
    throw error;
  }
}
