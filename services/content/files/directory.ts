import { mkdir } from "node:fs/promises";
import { dirname } from "node:path";
import { syncDirectory } from "#base/durable-file.ts";

/** Makes a directory and those above it, durably. One that is there is left as it is. */
export async function ensureDirectory(path: string, mode: number): Promise<void> {
  const first = await mkdir(path, { recursive: true, mode });
  if (first !== undefined) {
    for (let made = path; made.length >= first.length; made = dirname(made)) {
      await syncDirectory(dirname(made));
    }
  }
}
