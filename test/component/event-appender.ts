import { setTimeout as delay } from "node:timers/promises";
import { createClient, type Transport } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import type { Envelope } from "#gen/containerd/types/event_pb.ts";
import { EventLog } from "#gen/flotilla/events/v1/log_pb.ts";

const retryMs = 20;
/** How long one batch is tried; a restart takes far less. */
const takenMsMax = 60_000;

/** Appends numbered events one batch after the other, each again and again until it has been taken, as an outbox does. */
export class EventAppender {
  readonly name: string;
  readonly #transport: () => Transport;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  /** How many events have been taken. */
  appended = 0;
  /** How many appends have failed. */
  failures = 0;

  /**
   * @param name - Unique among the appenders of one stream.
   * @param batchSize - Events in an append.
   */
  constructor(name: string, transport: () => Transport, batchSize: number) {
    this.name = name;
    this.#transport = transport;
    this.#running = this.#run(batchSize);
  }

  /** Resolves when so many events more have been taken. */
  async progress(count: number): Promise<void> {
    const wanted = this.appended + count;
    while (this.appended < wanted) {
      await Promise.race([delay(retryMs), this.#running]);
    }
  }

  /** Ends after the batch that is under way. */
  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }

  async #run(batchSize: number): Promise<void> {
    while (!this.#stop.signal.aborted) {
      const records = Array.from({ length: batchSize }, (_, index) => {
        const number = this.appended + index;
        return {
          messageId: `${this.name}-${number}`,
          envelope: {
            timestamp: { seconds: 1_700_000_000n, nanos: 1 },
            namespace: this.name,
            topic: "/count",
            event: { typeUrl: "test.Number", value: Buffer.from(String(number)) },
          },
        };
      });
      await this.#appendUntilTaken(records);
      this.appended += batchSize;
    }
  }

  async #appendUntilTaken(
    records: Parameters<ReturnType<typeof eventLog>["append"]>[0]["records"] & object,
  ): Promise<void> {
    for (const deadline = performance.now() + takenMsMax; ; ) {
      try {
        await eventLog(this.#transport()).append({ records }, { timeoutMs: takenMsMax });
        return;
      } catch (error) {
        if (!isFailure(error, ErrorKind.Unavailable) || performance.now() > deadline) {
          throw error;
        }
        this.failures++;
        await delay(retryMs);
      }
    }
  }
}

function eventLog(transport: Transport) {
  return createClient(EventLog, transport);
}

/** The number of an event that an {@link EventAppender} has made. */
export function numberOf({ event }: Envelope): number {
  return Number(Buffer.from(event?.value ?? []).toString());
}
