/** How far a transfer says that one of its parts is. */
export interface PartProgress {
  readonly event: string;
  readonly name: string;
  readonly progress: bigint;
  readonly total: bigint;
}

/**
 * Notices when a pull stands still: bytes are to come, and none have for too long.
 *
 * @source containerd v2.3.4 internal/cri/server/images/image_pull.go `transferProgressReporter`
 */
export class ProgressWatch {
  readonly #timeoutMs: number;
  readonly #parts = new Map<string, bigint>();
  #lastMs: number;

  /** @param timeoutMs - Time without progress that is too long; 0 for any time. */
  constructor(timeoutMs: number, nowMs: number) {
    this.#timeoutMs = timeoutMs;
    this.#lastMs = nowMs;
  }

  /** Notes how far a part is. */
  note({ event, name, progress, total }: PartProgress, nowMs: number): void {
    if (name === "" || total === 0n) {
      return;
    }
    const before = this.#parts.get(name);
    if (event === "complete" || (progress >= total && event === "downloading")) {
      if (this.#parts.delete(name)) {
        this.#lastMs = nowMs;
      }
    } else if (event === "downloading" || (event === "waiting" && progress > 0n)) {
      this.#parts.set(name, progress);
      if (before === undefined || progress > before) {
        this.#lastMs = nowMs;
      }
    }
  }

  /** Tells whether the pull is to be given up. */
  hasStalled(nowMs: number): boolean {
    if (this.#timeoutMs === 0) {
      return false;
    }
    if (this.#parts.size === 0) {
      this.#lastMs = nowMs;
    }
    return nowMs - this.#lastMs > this.#timeoutMs;
  }

  /** How often to look, in milliseconds. */
  get intervalMs(): number {
    return Math.max(1, Math.min(10_000, Math.floor(this.#timeoutMs / 2)));
  }
}
