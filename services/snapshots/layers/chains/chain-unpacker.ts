import { KeyedLock } from "#base/keyed-lock.ts";
import { ChainRun, type UnpackerParts } from "./chain-run.ts";
import type { ChainOrder, ChainResult, ChainWatch } from "./order.ts";

/**
 * Makes the snapshots that the layers of images stand for.
 *
 * Where the snapshotter can put a snapshot on its parent when it is committed, layers are applied side by side, each as soon as its
 * bytes are there, and only committed one after the other; elsewhere each is applied on the one below. A snapshot that is there is
 * left as it is. Two calls never make the same snapshot: the later waits, and makes it if the earlier one fails.
 *
 * @source containerd v2.3.4 core/unpack/unpacker.go
 */
export class ChainUnpacker {
  readonly #parts: UnpackerParts;
  /**
   * One lock for each snapshot that is being made. A holder may wait for the snapshot below, never for one above, so that
   * waiting always ends.
   */
  readonly #locks = new KeyedLock<string>();

  constructor(parts: UnpackerParts) {
    this.#parts = parts;
  }

  /**
   * Unpacks a chain.
   *
   * When it fails or is cancelled, none of its active snapshots is left; what has been committed stays.
   *
   * @throws {@link FlotillaError} of the first layer that failed, which it names.
   */
  unpack(order: ChainOrder, watch: ChainWatch): Promise<ChainResult> {
    // What a layer stands on is mounted with it where the differ is to see that.
    const snapshots = this.#parts.differ.appliesInOrder ? { ...order.snapshots, canRebase: false } : order.snapshots;
    return new ChainRun(this.#parts, this.#locks, { ...order, snapshots }, watch).run();
  }
}
