import type { Chunk } from "./chunk.ts";

/** What has to last until collected frames are with the kernel, and who waits for that. */
export class WriteHolds {
  /** The chunk that collected frames refer to. */
  #chunk: Chunk | undefined;
  #waiting: (() => void)[] = [];

  /** Keeps a chunk until the next write is done. */
  hold(chunk: Chunk): void {
    if (chunk !== this.#chunk) {
      // Of a second one before the first is written nobody will let go: it is left to the garbage collector.
      this.#chunk ??= chunk;
      chunk.hold();
    }
  }

  /** Calls back when the next write is done. */
  wait(tell: () => void): void {
    this.#waiting.push(tell);
  }

  /** Begins anew. @returns what is to be done when the write is done, or will never be; done once, however often it is called. */
  take(): (() => void) | undefined {
    const chunk = this.#chunk;
    const waiting = this.#waiting;
    if (chunk === undefined && waiting.length === 0) {
      return undefined;
    }
    this.#chunk = undefined;
    this.#waiting = [];
    let isDone = false;
    return () => {
      if (isDone) {
        return;
      }
      isDone = true;
      chunk?.release();
      for (const tell of waiting) {
        tell();
      }
    };
  }
}
