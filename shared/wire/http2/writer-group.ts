import type { Socket } from "node:net";
import type { Chunk } from "./chunk.ts";
import type { FrameWriter, WriterSchedule } from "./frame-writer.ts";

/** The writers of connections that pass bytes to each other, which are flushed together. */
export class WriterGroup implements WriterSchedule {
  readonly #unflushed: FrameWriter[] = [];
  readonly #overloaded = new Set<FrameWriter>();
  readonly #paused = new Set<Socket>();
  /** The chunk that is being read. Whoever refers to its bytes beyond that holds it. */
  chunk: Chunk | undefined;

  add(writer: FrameWriter): void {
    this.#unflushed.push(writer);
  }

  /** Writes everything that was collected. */
  flush(): void {
    for (const writer of this.#unflushed) {
      writer.flush();
      if (writer.isOverloaded) {
        this.#overloaded.add(writer);
      }
    }
    this.#unflushed.length = 0;
  }

  /** Stops reading a socket while a receiver is overloaded with frames that no window limits. */
  pauseIfOverloaded(source: Socket): void {
    if (this.#overloaded.size > 0) {
      source.pause();
      this.#paused.add(source);
    }
  }

  /** A writer has nothing unwritten any more, or is gone. */
  recover(writer: FrameWriter): void {
    if (this.#overloaded.delete(writer) && this.#overloaded.size === 0) {
      for (const source of this.#paused) {
        source.resume();
      }
      this.#paused.clear();
    }
  }
}
