import type http2 from "node:http2";

/** Counts the streams under way whose calls may change something. */
export class RunningChanges {
  #count = 0;
  #onNone: (() => void) | undefined;

  /** Counts a stream until it closes. */
  add(stream: http2.ServerHttp2Stream): void {
    this.#count++;
    stream.once("close", () => {
      this.#count--;
      if (this.#count === 0) {
        this.#onNone?.();
      }
    });
  }

  /** Resolves when none is left, or after the limit. */
  async drained(limitMs: number): Promise<void> {
    if (this.#count > 0) {
      await new Promise<void>((resolve) => {
        const deadline = setTimeout(resolve, limitMs);
        this.#onNone = () => {
          clearTimeout(deadline);
          resolve();
        };
      });
    }
  }
}
