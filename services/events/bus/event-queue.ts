import { ErrorKind, failure } from "#base/errors.ts";
import type { Batch } from "./batch.ts";
import type { NewEvent } from "./bus.ts";
import type { EventMessage } from "./cloud-event.ts";

/** Events that wait at a time, on the way or not. */
const queueMax = 16_384;
const queueBytesMax = 64 * 1024 * 1024;

/** An event that the stream is to take. */
export interface Entry {
  readonly event: NewEvent;
  readonly message: EventMessage;
  readonly sizeBytes: number;
  readonly batch: Batch;
  /** It was sent before, and may have been stored or be what is refused: it goes alone, and nothing behind it until it is answered. */
  isRepeated: boolean;
}

/** The events that the stream has not taken: those that are on the way are counted, those that are not stand here in their order. */
export class EventQueue {
  /** Oldest first. */
  #entries: Entry[] = [];
  #waiting = 0;
  #waitingBytes = 0;

  /**
   * Adds the events of one append. Where nothing waits they may be as many as they are.
   *
   * @throws {@link FlotillaError} `unavailable` when too many wait.
   */
  add(entries: readonly Entry[]): void {
    const bytes = entries.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    const isFull = this.#waiting + entries.length > queueMax || this.#waitingBytes + bytes > queueBytesMax;
    if (this.#waiting > 0 && isFull) {
      throw failure(ErrorKind.Unavailable, `${this.#waiting} events wait to be published already`);
    }
    this.#entries.push(...entries);
    this.#waiting += entries.length;
    this.#waitingBytes += bytes;
  }

  /** Events that the stream has not taken. */
  get waiting(): number {
    return this.#waiting;
  }

  /** One that is not on the way, by its place. */
  at(index: number): Entry | undefined {
    return this.#entries[index];
  }

  /** Removes the first ones, which are on the way now or dropped. */
  shift(count: number): void {
    this.#entries.splice(0, count);
  }

  /** Puts events that were on the way before all others. */
  putBack(entries: readonly Entry[]): void {
    for (const entry of entries) {
      entry.isRepeated = true;
    }
    this.#entries = [...entries, ...this.#entries];
  }

  /** Nobody waits for an event any more: the stream has taken it, or it was dropped. */
  release(entry: Entry): void {
    this.#waiting--;
    this.#waitingBytes -= entry.sizeBytes;
  }
}
