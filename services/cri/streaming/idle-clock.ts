import { timerMsMax } from "#base/limits.ts";

/** Tells once when nothing has moved for a while. */
export class IdleClock {
  readonly #idleMs: number;
  readonly #onIdle: () => void;
  #lastMs = performance.now();
  #timer: NodeJS.Timeout | undefined;

  /** @param idleMs - How long nothing may move; 0 for ever. */
  constructor(idleMs: number, onIdle: () => void) {
    this.#idleMs = Math.min(idleMs, timerMsMax);
    this.#onIdle = onIdle;
    if (idleMs > 0) {
      this.#wait(this.#idleMs);
    }
  }

  /** Something has moved. */
  touch(): void {
    this.#lastMs = performance.now();
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #wait(ms: number): void {
    this.#timer = setTimeout(() => {
      const leftMs = this.#lastMs + this.#idleMs - performance.now();
      if (leftMs > 0) {
        this.#wait(leftMs);
      } else {
        this.#onIdle();
      }
    }, ms);
    this.#timer.unref();
  }
}
