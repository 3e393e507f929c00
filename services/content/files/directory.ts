import { mkdir, open } from "node:fs/promises";
import { dirname } from "node:path";

/** Makes the entries of a directory durable. @source fsync(2), notes on directories */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, "r");
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** Makes a directory and those above it, durably. One that is there is left as it is. */
export async function ensureDirectory(path: string, mode: number): Promise<void> {
  const first = await mkdir(path, { recursive: true, mode });
  if (first !== undefined) {
    for (let made = path; made.length >= first.length; made = dirname(made)) {
      await syncDirectory(dirname(made));
    }
  }
}
