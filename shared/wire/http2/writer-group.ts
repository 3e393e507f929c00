import type { Duplex } from "node:stream";
import type { Chunk } from "./chunk.ts";
import type { FrameWriter, WriterSchedule } from "./frame-writer.ts";

/** The writers of connections that pass bytes to each other, which are flushed together. */
export class WriterGroup implements WriterSchedule {
  #unflushed: FrameWriter[] = [];
  readonly #overloaded = new Set<FrameWriter>();
  readonly #paused = new Set<Duplex>();
  /** The chunk that is being read. Whoever refers to its bytes beyond that holds it. */
  chunk: Chunk | undefined;
  /** How many actions run whose frames are written behind them. */
  #actions = 0;
  #isFlushScheduled = false;

  /** Runs an action, and then writes what it and all that came with it collected. */
  run(action: () => void): void {
    this.#actions += 1;
    try {
      action();
    } finally {
      this.#actions -= 1;
      if (this.#actions === 0) {
        this.flush();
      }
    }
  }

  /** Writes what was collected when the events that are there have been handled, so that many answers leave by one write. */
  #flushSoon(): void {
    if (this.#actions === 0 && !this.#isFlushScheduled) {
      this.#isFlushScheduled = true;
      setImmediate(() => {
        this.#isFlushScheduled = false;
        this.flush();
      });
    }
  }

  add(writer: FrameWriter): void {
    this.#unflushed.push(writer);
    this.#flushSoon();
  }

  /** Writes everything that was collected. */
  flush(): void {
    // A write may be answered before it returns, where both ends are in one process.
    while (this.#unflushed.length > 0) {
      const writers = this.#unflushed;
      this.#unflushed = [];
      for (const writer of writers) {
        writer.flush();
        if (writer.isOverloaded) {
          this.#overloaded.add(writer);
        }
      }
    }
  }

  /** Stops reading a socket while a receiver is overloaded with frames that no window limits. */
  pauseIfOverloaded(source: Duplex): void {
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
