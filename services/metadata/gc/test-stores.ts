import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { SharingPolicy } from "../store/ingests.ts";
import { openStores, type Stores } from "../stores.ts";
import type { FileOwners } from "./files.ts";

/** Stores on a temporary file, with a clock that stands still until it is set. */
export class TestStores implements Disposable {
  readonly stores: Stores;
  /** What the clock says, in ms since the epoch. */
  nowMs = Date.UTC(2026, 0, 1);
  readonly #directory = mkdtempSync(join(tmpdir(), "metadata-test-"));

  constructor(policy: SharingPolicy = "shared", options: { readonly waitingEventsMax?: number } = {}) {
    this.stores = openStores({
      path: join(this.#directory, "meta.db"),
      policy,
      durable: false,
      clock: () => BigInt(this.nowMs) * 1_000_000n,
      ...options,
    });
  }

  [Symbol.dispose](): void {
    this.stores.records.database.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

/** Files on a disk that is a set, kept by the rules that the content and snapshots processes keep. */
export class TestFiles implements FileOwners {
  readonly digests = new Set<string>();
  readonly snapshots = new Set<bigint>();
  readonly removedMounts: bigint[] = [];
  readonly #stores: Stores;
  readonly #locks = new Map<string, Promise<void>>();

  constructor(stores: Stores) {
    this.#stores = stores;
  }

  /** Runs a step while nobody else holds the digest. */
  async whileLocked<T>(digest: string, step: () => Promise<T>): Promise<T> {
    const before = this.#locks.get(digest) ?? Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#locks.set(
      digest,
      before.then(() => promise),
    );
    await before;
    try {
      return await step();
    } finally {
      resolve();
    }
  }

  async removeBlobs(digests: readonly string[]): Promise<string[]> {
    const removed: string[] = [];
    for (const digest of digests) {
      await this.whileLocked(digest, async () => {
        const { records, releases } = this.#stores;
        if (await records.maintain(() => releases.beginDeleting(digest))) {
          await turns(1);
          this.digests.delete(digest);
          removed.push(digest);
        }
      });
    }
    return removed;
  }

  async removeMounts(ids: readonly bigint[]): Promise<readonly bigint[]> {
    this.removedMounts.push(...ids);
    return ids;
  }

  async removeSnapshots(_snapshotter: string, ids: readonly bigint[]): Promise<readonly bigint[]> {
    for (const id of ids) {
      this.snapshots.delete(id);
    }
    return ids;
  }
}

/** Waits for so many turns of the event loop. */
export async function turns(count: number): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) {
    await new Promise<void>((resolve) => {
      setImmediate(resolve);
    });
  }
}
