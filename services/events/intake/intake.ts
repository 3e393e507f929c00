import { setTimeout as delay } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { type Record, RecordSchema } from "#gen/flotilla/events/v1/log_pb.ts";
import type { EventBus, NewEvent } from "../bus/bus.ts";
import type { Spool } from "./spool.ts";

/**
 * How long an event may wait for the stream before it is put on disk here. A shim gives up after 5 s, forgets what it has not told when it ends, and tells
 * one event after the other: exit and deletion must both be out of its hands in that time.
 *
 * @source containerd v2.3.4 pkg/shim/publisher.go, shim.go
 */
const directMsMax = 500;
const retryMsMin = 50;
const retryMsMax = 2_000;

/** What the intake tells of. */
export interface IntakeLog {
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/**
 * Takes the events of those who cannot keep them: once {@link Intake.take} has resolved, the event is on disk, in the stream or else in
 * the spool, from which it goes to the stream later, in order. As long as the spool holds anything, what comes goes behind it.
 */
export class Intake {
  readonly #bus: EventBus;
  readonly #spool: Spool;
  readonly #log: IntakeLog;
  #wake = Promise.withResolvers<void>();

  constructor(bus: EventBus, spool: Spool, log: IntakeLog) {
    this.#bus = bus;
    this.#spool = spool;
    this.#log = log;
  }

  /**
   * Takes an event. Taking it again under the same message id is harmless.
   *
   * @throws {@link FlotillaError}
   *   - `resource_exhausted`: the event is larger than the stream takes.
   *   - `unavailable`: neither the stream nor the disk takes it.
   */
  async take(event: NewEvent): Promise<void> {
    if (this.#spool.isEmpty) {
      try {
        await this.#bus.append([event], { durability: "durable", waitMsMax: directMsMax });
        return;
      } catch (error) {
        if (!isFailure(error, ErrorKind.Unavailable)) {
          throw error;
        }
      }
    }
    await this.#spool.add(create(RecordSchema, event));
    this.#wake.resolve();
  }

  /** Empties the spool into the stream whenever it holds something, until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    signal.addEventListener("abort", () => this.#wake.resolve(), { once: true });
    let retryMs = retryMsMin;
    while (!signal.aborted) {
      this.#wake = Promise.withResolvers();
      if (this.#spool.isEmpty) {
        await this.#wake.promise;
        continue;
      }
      try {
        await this.#drainOldest();
        retryMs = retryMsMin;
      } catch (error) {
        if (retryMs === retryMsMin) {
          this.#log.warn({ err: error }, "events of shims wait on disk");
        }
        await delay(retryMs, undefined, { signal }).catch(() => undefined);
        retryMs = Math.min(retryMsMax, 2 * retryMs);
      }
    }
  }

  async #drainOldest(): Promise<void> {
    const segment = await this.#spool.oldest();
    if (segment === undefined) {
      return;
    }
    if (segment.tornBytes > 0) {
      this.#log.warn({ bytes: segment.tornBytes }, "the end of a spool file is no event, as a crash leaves it");
    }
    await this.#publish(segment.records);
    await this.#spool.remove(segment);
  }

  /** Publishes events in order. Those that the stream never takes must not hold up the others. */
  async #publish(records: readonly Record[]): Promise<void> {
    const events = records.flatMap(({ messageId, envelope }) =>
      envelope === undefined ? [] : { messageId, envelope },
    );
    try {
      await this.#bus.append(events);
    } catch (error) {
      if (!isFailure(error, ErrorKind.ResourceExhausted)) {
        throw error;
      }
      if (events.length === 1) {
        this.#log.error({ err: error, topic: events[0]?.envelope.topic }, "an event is larger than the stream takes");
        return;
      }
      for (const record of records) {
        await this.#publish([record]);
      }
    }
  }
}
