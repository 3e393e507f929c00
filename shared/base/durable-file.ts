import { open, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { systemErrorCode } from "./errors.ts";

/** Makes the entries of a directory durable. @source fsync(2), notes on directories */
export async function syncDirectory(path: string): Promise<void> {
  await using directory = await open(path, "r");
  await directory.sync();
}

/**
 * Replaces a small file. After a crash there is the old one or the new one, and once this has resolved it is the new one. Two replacements of
 * one file at a time are a bug.
 *
 * @param mode - Permission bits, less the umask.
 */
export async function replaceFile(path: string, text: string, { mode }: { readonly mode: number }): Promise<void> {
  const temporary = `${path}.new`;
  await rm(temporary, { force: true });
  await writeFile(temporary, text, { mode, flush: true, flag: "wx" });
  await rename(temporary, path);
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
