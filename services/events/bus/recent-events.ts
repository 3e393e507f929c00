import { ErrorKind, failure } from "#base/errors.ts";
import type { StoredEvent } from "./bus.ts";

const countMax = 4096;
const bytesMax = 8 * 1024 * 1024;
/** Events that are given at a time. */
const takenMax = 64;

interface Entry {
  readonly event: StoredEvent;
  readonly sizeBytes: number;
}

/** What follows a place in the order of events. */
export type Following =
  /** The next events, one at least. */
  | { readonly kind: "events"; readonly events: readonly StoredEvent[] }
  /** Nothing yet. */
  | { readonly kind: "none" }
  /** Something that is no longer in memory; ask the store. */
  | { readonly kind: "behind" };

/**
 * The newest events in memory, as far as a subscriber has yet to read them, shared by all subscribers, so that those that keep up cost nothing
 * but a number each, and an event is gone from memory as soon as all have it.
 *
 * Bounded: 4096 events, 8 MiB.
 */
export class RecentEvents {
  #entries: (Entry | undefined)[] = [];
  /** Index of the oldest entry that counts. Those before it are empty, and removed in bulk. */
  #head = 0;
  #bytes = 0;
  /** Every event with a greater sequence is among the entries. */
  #floor: number;
  #last: number;
  readonly #waiting = new Set<() => void>();
  #ended: Error | undefined;

  /** @param last - Sequence of the newest event that is stored already. */
  constructor(last: number) {
    this.#floor = last;
    this.#last = last;
  }

  /** Sequence of the newest event. */
  get last(): number {
    return this.#last;
  }

  /** Adds the newest event. One that is not newer than all before is known already and left out. */
  add(event: StoredEvent, sizeBytes: number): void {
    if (event.sequence <= this.#last) {
      return;
    }
    this.#last = event.sequence;
    this.#entries.push({ event, sizeBytes });
    this.#bytes += sizeBytes;
    while (this.#entries.length - this.#head > countMax || this.#bytes > bytesMax) {
      this.#dropOldest();
    }
    this.#wakeAll();
  }

  /** Forgets the events up to a sequence, since everybody has them. */
  release(sequence: number): void {
    for (let oldest = this.#entries[this.#head]; oldest !== undefined && oldest.event.sequence <= sequence; ) {
      this.#dropOldest();
      oldest = this.#entries[this.#head];
    }
  }

  #dropOldest(): void {
    const oldest = this.#entries[this.#head];
    this.#entries[this.#head] = undefined;
    this.#head++;
    this.#bytes -= oldest?.sizeBytes ?? 0;
    this.#floor = oldest?.event.sequence ?? this.#last;
    if (this.#head === this.#entries.length) {
      this.#entries.length = 0;
      this.#head = 0;
    } else if (this.#head > countMax) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    }
  }

  /** Ends everything that is read from here with an error. */
  end(reason: Error): void {
    this.#ended = reason;
    this.#wakeAll();
  }

  #wakeAll(): void {
    for (const wake of this.#waiting) {
      wake();
    }
    this.#waiting.clear();
  }

  /** What comes after a sequence. */
  after(sequence: number): Following {
    if (this.#ended !== undefined) {
      throw failure(ErrorKind.Unavailable, this.#ended.message, { cause: this.#ended });
    }
    if (sequence < this.#floor) {
      return { kind: "behind" };
    }
    if (sequence >= this.#last) {
      return { kind: "none" };
    }
    let low = this.#head;
    let high = this.#entries.length - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#entries[middle]?.event.sequence ?? 0) > sequence) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return { kind: "events", events: this.#entries.slice(low, low + takenMax).flatMap((entry) => entry?.event ?? []) };
  }

  /** Resolves when there is something new after a sequence, or the signal has aborted. */
  news(sequence: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal.aborted || sequence < this.#last || this.#ended !== undefined) {
        resolve();
        return;
      }
      const wake = (): void => {
        signal.removeEventListener("abort", wake);
        this.#waiting.delete(wake);
        resolve();
      };
      signal.addEventListener("abort", wake, { once: true });
      this.#waiting.add(wake);
    });
  }
}
