import type { SnapshotUsage } from "../drivers/driver.ts";
import type { TreeWorkers } from "../drivers/trees.ts";
import { WorkerPool } from "./worker-pool.ts";

/** Trees that are measured, copied or deleted at a time, beside the layers that are being worked on. */
const threadsMax = 2;

/** Threads that go through whole directory trees. Work is not given up once it is under way. */
export class TreeThreads implements TreeWorkers, AsyncDisposable {
  readonly #pool = new WorkerPool(threadsMax);
  readonly #never = new AbortController().signal;

  measure(root: string, base?: string): Promise<SnapshotUsage> {
    return this.#pool.run("measure", { root, base }, this.#never);
  }

  async remove(paths: readonly string[]): Promise<void> {
    if (paths.length > 0) {
      await this.#pool.run("remove", paths, this.#never);
    }
  }

  copy(source: string, target: string): Promise<void> {
    return this.#pool.run("copy", { source, target }, this.#never);
  }

  copyFile(source: string, target: string): Promise<void> {
    return this.#pool.run("copyFile", { source, target }, this.#never);
  }

  /** Ends all threads; what they are doing fails. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.#pool[Symbol.asyncDispose]();
  }
}
