import { resetsRemembered } from "./limits.ts";

/** Streams that were reset lately from this side: frames that the peer sent before it knew are no fault. */
export class LateStreams {
  readonly #ids = new Set<number>();

  /** Remembers a stream, and forgets the oldest when there are too many. */
  add(streamId: number): void {
    this.#ids.add(streamId);
    if (this.#ids.size > resetsRemembered) {
      for (const oldest of this.#ids) {
        this.#ids.delete(oldest);
        return;
      }
    }
  }

  has(streamId: number): boolean {
    return this.#ids.has(streamId);
  }

  /** The peer has reset the stream too: whatever comes of it now is a fault. */
  forget(streamId: number): void {
    this.#ids.delete(streamId);
  }
}
