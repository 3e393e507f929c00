import { setTimeout as delay } from "node:timers/promises";
import type { Outbox, WaitingEvent } from "./store/outbox.ts";
import type { Records } from "./store/records.ts";

/** An event on its way out. */
export interface OutgoingEvent {
  readonly messageId: string;
  /** The encoded envelope. */
  readonly envelope: Uint8Array;
}

/** Publishes events and answers when they are durable. Publishing one again is harmless. */
export type Publish = (events: readonly OutgoingEvent[], signal: AbortSignal) => Promise<void>;

/** Most events in one call. */
const eventsPerCallMax = 256;
/** Most bytes of envelopes in one call, unless a single one has more. */
const bytesPerCallMax = 4 * 1024 * 1024;
const retryMsMin = 50;
const retryMsMax = 5_000;

/**
 * Takes events out of the outbox, in order, each after it was published. Starts as soon as an event is committed, and tries again
 * while the events process is away; the outbox holds what waits.
 */
export class OutboxPublisher {
  readonly #records: Records;
  readonly #outbox: Outbox;
  readonly #publish: Publish;
  readonly #onFailure: (error: unknown) => void;
  #wake = Promise.withResolvers<void>();

  /** @param onFailure - Told of the first failure after each success. */
  constructor(records: Records, publish: Publish, onFailure: (error: unknown) => void) {
    this.#records = records;
    this.#outbox = records.outbox;
    this.#publish = publish;
    this.#onFailure = onFailure;
    records.onCommit(() => this.#wake.resolve());
  }

  /** Publishes until the signal aborts. Events that are left then go out after the next start. */
  async run(signal: AbortSignal): Promise<void> {
    const stopped = new Promise<void>((resolve) => {
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
    let retryMs = retryMsMin;
    while (!signal.aborted) {
      this.#wake = Promise.withResolvers();
      const batch = limitBytes(this.#outbox.first(eventsPerCallMax));
      const last = batch.at(-1);
      if (last === undefined) {
        await Promise.race([this.#wake.promise, stopped]);
        continue;
      }
      try {
        await this.#publish(
          batch.map(({ sequence, envelope }) => ({ messageId: this.#outbox.messageId(sequence), envelope })),
          signal,
        );
        await this.#records.maintain(() => this.#outbox.removeUpTo(last.sequence));
        retryMs = retryMsMin;
      } catch (error) {
        if (retryMs === retryMsMin && !signal.aborted) {
          this.#onFailure(error);
        }
        await Promise.race([delay(retryMs, undefined, { ref: false }), stopped]);
        retryMs = Math.min(retryMs * 2, retryMsMax);
      }
    }
  }
}

function limitBytes(events: readonly WaitingEvent[]): WaitingEvent[] {
  let sizeBytes = 0;
  const end = events.findIndex(({ envelope }) => {
    sizeBytes += envelope.byteLength;
    return sizeBytes > bytesPerCallMax;
  });
  return events.slice(0, end < 0 ? events.length : Math.max(1, end));
}
