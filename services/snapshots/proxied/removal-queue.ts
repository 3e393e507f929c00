import { ErrorKind, isFailure } from "#base/errors.ts";
import type { ReleasedSnapshot } from "../domain/front.ts";

/** How long the collector waits for a snapshotter that answers. It asks again for what is not done by then. */
const patienceMs = 2_000;
/** How often the collector's patience is looked at. */
const watchMs = 20;

/** What the queue works with. */
export interface RemovalQueueParts {
  /** Whether the snapshotter has been silent for long. Nobody waits for it then. */
  isStuck(): boolean;
  /** Removes one snapshot unless it is wanted again. @returns whether nothing is left of it. */
  remove(released: ReleasedSnapshot): Promise<boolean>;
  /** Called when what was asked for is removed as far as it goes. */
  settle(): Promise<void>;
  onFailure(error: unknown): void;
}

/**
 * The removal of snapshots by a snapshotter that is somebody else's, one after the other in the order given, beside the collection that asks for
 * it: the collector waits a moment for one that answers and not at all for one that is stuck, and is told the next time
 * what has gone meanwhile.
 */
export class RemovalQueue {
  readonly #parts: RemovalQueueParts;
  readonly #waiting = new Map<bigint, ReleasedSnapshot>();
  readonly #removed = new Set<bigint>();
  #running: Promise<void> | undefined;

  constructor(parts: RemovalQueueParts) {
    this.#parts = parts;
  }

  /** Asks for the removal of snapshots. @returns the ids of those of which nothing is left. */
  async ask(released: readonly ReleasedSnapshot[]): Promise<bigint[]> {
    for (const each of released) {
      if (!this.#removed.has(each.id)) {
        this.#waiting.set(each.id, each);
      }
    }
    if (this.#waiting.size > 0) {
      this.#running ??= this.#run().finally(() => {
        this.#running = undefined;
      });
      await this.#waitFor(this.#running);
    }
    return released.map(({ id }) => id).filter((id) => this.#removed.delete(id));
  }

  async #waitFor(running: Promise<void>): Promise<void> {
    const { promise: patienceOver, resolve } = Promise.withResolvers<void>();
    const started = performance.now();
    const watch = setInterval(() => {
      if (this.#parts.isStuck() || performance.now() - started > patienceMs) {
        resolve();
      }
    }, watchMs);
    try {
      await Promise.race([running, this.#parts.isStuck() ? undefined : patienceOver]);
    } finally {
      clearInterval(watch);
    }
  }

  async #run(): Promise<void> {
    for (const [id, released] of this.#waiting) {
      this.#waiting.delete(id);
      try {
        if (await this.#parts.remove(released)) {
          this.#removed.add(id);
        }
      } catch (error) {
        // One that still has children is removed after them, by a later collection.
        if (!isFailure(error, ErrorKind.FailedPrecondition)) {
          this.#parts.onFailure(error);
        }
        if (isFailure(error, ErrorKind.DeadlineExceeded, ErrorKind.Unavailable, ErrorKind.ResourceExhausted)) {
          // The others would wait as long. The next collection asks again.
          this.#waiting.clear();
          return;
        }
      }
    }
    await this.#parts.settle().catch((error: unknown) => this.#parts.onFailure(error));
  }
}
