import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { nsPerMs } from "#base/times.ts";
import type { Outbox, OutboxState, WaitingEvent } from "./store/outbox.ts";
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
/**
 * How long the first event after a pause waits for those that come with it: what a client does mostly makes several, one after the other, and a
 * call for each would cost the events process more than all else about them.
 */
const gatherMsDefault = 5;
const retryMsMin = 50;
const retryMsMax = 5_000;

/** What the publisher tells its process. */
export interface PublisherReports {
  /** The first failure after each success. */
  onFailure(error: unknown): void;
  /** An event that is never taken and was left out. */
  onRefused(error: unknown): void;
  /** Again and again while the oldest event has waited for long, because publishing fails or is too slow. */
  onWaiting(state: OutboxState): void;
}

/** How long an event waits before {@link PublisherReports.onWaiting} is told, and how often it is told. */
const reportMsDefault = 30_000;

/**
 * Takes events out of the outbox, in order, each after it was published. Starts some milliseconds after an event is committed, and tries again
 * while the events process is away; the outbox holds what waits.
 */
export class OutboxPublisher {
  readonly #records: Records;
  readonly #outbox: Outbox;
  readonly #publish: Publish;
  readonly #reports: PublisherReports;
  readonly #reportMs: number;
  readonly #gatherMs: number;
  #wake = Promise.withResolvers<void>();
  #lookedMs = performance.now();

  /** @param times - In place of the usual ones. */
  constructor(
    records: Records,
    publish: Publish,
    reports: PublisherReports,
    {
      reportMs = reportMsDefault,
      gatherMs = gatherMsDefault,
    }: { readonly reportMs?: number; readonly gatherMs?: number } = {},
  ) {
    this.#records = records;
    this.#outbox = records.outbox;
    this.#publish = publish;
    this.#reports = reports;
    this.#reportMs = reportMs;
    this.#gatherMs = gatherMs;
    records.onCommit(() => this.#wake.resolve());
  }

  /** Publishes until the signal aborts. Events that are left then go out after the next start. */
  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener("abort", () => this.#wake.resolve(), { once: true });
    let retryMs = retryMsMin;
    let countMax = eventsPerCallMax;
    while (!signal.aborted) {
      this.#wake = Promise.withResolvers();
      const batch = limitBytes(this.#outbox.next(countMax));
      const last = batch.at(-1);
      if (last === undefined) {
        await this.#wake.promise;
        await delay(this.#gatherMs, undefined, { ref: false, signal }).catch(() => undefined);
        continue;
      }
      this.#reportWaiting();
      try {
        if (!(await this.#publishOrRefuse(batch, signal))) {
          countMax = Math.max(1, batch.length >> 1);
          continue;
        }
        this.#outbox.markPublished(last.sequence);
        this.#records.maintainLazily(() => this.#outbox.forget());
        retryMs = retryMsMin;
        countMax = eventsPerCallMax;
      } catch (error) {
        if (signal.aborted) {
          break;
        }
        if (retryMs === retryMsMin) {
          this.#reports.onFailure(error);
        }
        await delay(retryMs, undefined, { ref: false, signal }).catch(() => undefined);
        retryMs = Math.min(retryMs * 2, retryMsMax);
      }
    }
    // What cannot be forgotten now is published again after the next start.
    await this.#records.maintain(() => this.#outbox.forget()).catch(() => undefined);
  }

  #reportWaiting(): void {
    if (performance.now() - this.#lookedMs < this.#reportMs) {
      return;
    }
    this.#lookedMs = performance.now();
    const state = this.#outbox.state();
    const waitedNs = this.#records.clock() - (state.oldestNs ?? this.#records.clock());
    if (state.count > 0 && waitedNs >= BigInt(this.#reportMs) * nsPerMs) {
      this.#reports.onWaiting(state);
    }
  }

  /**
   * Publishes a batch. An event that is larger than the stream ever takes must not hold up all that come after it: the batch is refused until it
   * is the only one, and then it is told of and counts as published.
   *
   * @returns whether the batch is done with; if not, a smaller one must be tried.
   */
  async #publishOrRefuse(batch: readonly WaitingEvent[], signal: AbortSignal): Promise<boolean> {
    try {
      await this.#publish(
        batch.map(({ sequence, envelope }) => ({ messageId: this.#outbox.messageId(sequence), envelope })),
        signal,
      );
      return true;
    } catch (error) {
      if (!isFailure(error, ErrorKind.ResourceExhausted)) {
        throw error;
      }
      if (batch.length > 1) {
        return false;
      }
      this.#reports.onRefused(error);
      return true;
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
