import { mkdirSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import SqliteDatabase from "better-sqlite3";
import { ErrorKind, failure, systemErrorCode } from "#base/errors.ts";
import { directoryMode } from "./open.ts";

const retryMs = 20;

/**
 * Takes a lock that at most one process holds at a time and that ends with the process, however it ends.
 *
 * @param path - File of the lock; made where it is missing, with its directory, and never removed.
 * @param waitMs - How long to wait for a process that is still stopping.
 * @returns What gives the lock back.
 * @throws {@link FlotillaError} `unavailable` when another process keeps the lock.
 */
export async function lockFile(path: string, waitMs: number): Promise<Disposable> {
  const deadline = performance.now() + waitMs;
  mkdirSync(dirname(path), { recursive: true, mode: directoryMode });
  const holder = new SqliteDatabase(path, { timeout: 0 });
  for (;;) {
    try {
      holder.exec("BEGIN EXCLUSIVE");
      return { [Symbol.dispose]: () => holder.close() };
    } catch (error) {
      if (systemErrorCode(error) !== "SQLITE_BUSY" || performance.now() > deadline) {
        holder.close();
        throw failure(ErrorKind.Unavailable, `${path} is locked by another process`, { cause: error });
      }
      await delay(retryMs);
    }
  }
}
