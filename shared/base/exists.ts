import { lstat } from "node:fs/promises";
import { systemErrorCode } from "./errors.ts";

/**
 * Tells whether there is something at a path; a link counts, wherever it leads.
 *
 * @throws The system's error when that can't be told.
 */
export async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") {
      return false;
    }
    throw error;
  }
}
