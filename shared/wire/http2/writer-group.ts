import type { Duplex } from "node:stream";
import type { Chunk } from "./chunk.ts";
import type { FrameWriter } from "./frame-writer.ts";
import type { WriterSchedule } from "./writer-schedule.ts";

/** The writers of connections that pass bytes to each other, which are flushed together. */
export class WriterGroup implements WriterSchedule<FrameWriter> {
  #unflushed: FrameWriter[] = [];
  readonly #overloaded = new Set<FrameWriter>();
  readonly #paused = new Set<Duplex>();
  /** The chunk that is being read. Whoever refers to its bytes beyond that holds it. */
  chunk: Chunk | undefined;
  /** How many actions run whose frames are written behind them. */
  #actions = 0;
  #isFlushScheduled = false;

  /**
   * Runs an action, and then writes what it and all that came with it collected.
   *
   * @param source - Writes to whoever caused the action, and so comes last: what passes on to others is what is waited for, what goes
   *   back are mostly acknowledgements.
   */
  run(action: () => void, source?: FrameWriter): void {
    this.#actions += 1;
    try {
      action();
    } finally {
      this.#actions -= 1;
      if (this.#actions === 0) {
        this.flush(source);
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

  /** Writes everything that was collected, that of one writer behind that of the others. */
  flush(last?: FrameWriter): void {
    // A write may be answered before it returns, where both ends are in one process.
    while (this.#unflushed.length > 0) {
      const writers = this.#unflushed;
      this.#unflushed = [];
      if (writers.length > 1 && writers[0] === last) {
        writers.push(...writers.splice(0, 1));
      }
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
