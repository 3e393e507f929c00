import type { Digest } from "#containerd/digest.ts";

export interface CopyBudgetOptions {
  /** How many bytes copies may take; 0 for no bound. Read each time. */
  readonly bytesMax: () => number;
  /** How long a copy stays after it was last used, whatever the bound, in milliseconds: who was told its path has opened it by then. */
  readonly restMs: number;
  /** Milliseconds of a clock that is never set. */
  readonly now: () => number;
}

interface Copy {
  readonly sizeBytes: number;
  readonly usedMs: number;
}

/** Keeps account of copies that can be made again: which to give up, those that have not been used for longest first. */
export class CopyBudget {
  readonly #options: CopyBudgetOptions;
  /** The one that was used last is the last. */
  readonly #copies = new Map<Digest, Copy>();
  #totalBytes = 0;

  constructor(options: CopyBudgetOptions) {
    this.#options = options;
  }

  /** Notes a copy that was there before. To be called in the order of their use, before any of {@link used}. */
  found(digest: Digest, sizeBytes: number): void {
    this.#set(digest, sizeBytes, this.#options.now() - this.#options.restMs);
  }

  /** Notes that a copy is used now. */
  used(digest: Digest, sizeBytes: number): void {
    this.#set(digest, sizeBytes, this.#options.now());
  }

  /** Notes that a copy is gone. */
  forget(digest: Digest): void {
    this.#totalBytes -= this.#copies.get(digest)?.sizeBytes ?? 0;
    this.#copies.delete(digest);
  }

  /**
   * The copies to give up.
   *
   * @param bytesMax - What the rest may take; the bound unless given.
   */
  surplus(bytesMax = this.#options.bytesMax() || Number.POSITIVE_INFINITY): Digest[] {
    const surplus: Digest[] = [];
    let leftBytes = this.#totalBytes;
    for (const [digest, { sizeBytes }] of this.#copies) {
      if (leftBytes <= bytesMax || !this.isRested(digest)) {
        break;
      }
      surplus.push(digest);
      leftBytes -= sizeBytes;
    }
    return surplus;
  }

  /** Whether a copy has not been used for a while, so that it may go. */
  isRested(digest: Digest): boolean {
    const { now, restMs } = this.#options;
    const copy = this.#copies.get(digest);
    return copy !== undefined && copy.usedMs <= now() - restMs;
  }

  #set(digest: Digest, sizeBytes: number, usedMs: number): void {
    this.forget(digest);
    this.#copies.set(digest, { sizeBytes, usedMs });
    this.#totalBytes += sizeBytes;
  }
}
