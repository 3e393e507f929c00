import { toBinary } from "@bufbuild/protobuf";
import { EnvelopeSchema } from "#gen/containerd/types/event_pb.ts";
import { type EventBus, type NewEvent, type Start, StoredEvent, type Subscription } from "./bus.ts";

/** An event bus that keeps everything in memory, for tests of what uses a bus. Nothing survives the process. */
export class MemoryBus implements EventBus {
  readonly #kept: { readonly event: StoredEvent; readonly storedAtNs: bigint }[] = [];
  readonly #ids = new Set<string>();
  readonly #waiting = new Set<() => void>();

  append(events: readonly NewEvent[]): Promise<void> {
    for (const { messageId, envelope } of events) {
      if (!this.#ids.has(messageId)) {
        this.#ids.add(messageId);
        const storedAtNs = BigInt(Date.now()) * 1_000_000n;
        const event = new StoredEvent(this.#kept.length + 1, toBinary(EnvelopeSchema, envelope), envelope);
        this.#kept.push({ event, storedAtNs });
      }
    }
    for (const wake of this.#waiting) {
      wake();
    }
    return Promise.resolve();
  }

  subscribe(start: Start, signal: AbortSignal): Promise<Subscription> {
    const from = this.#indexOf(start);
    return Promise.resolve({
      start: { store: "memory", sequence: from + 1 },
      [Symbol.asyncIterator]: () => this.#follow(from, signal),
    });
  }

  #indexOf(start: Start): number {
    switch (start.kind) {
      case "now":
        return this.#kept.length;
      case "sequence":
        return Math.min(Math.max(0, start.sequence - 1), this.#kept.length);
      case "position":
        return start.position.sequence - 1;
      default: {
        const found = this.#kept.findIndex(({ storedAtNs }) => storedAtNs >= start.timeNs);
        return found < 0 ? this.#kept.length : found;
      }
    }
  }

  async *#follow(from: number, signal: AbortSignal): AsyncGenerator<readonly StoredEvent[]> {
    for (let index = from; !signal.aborted; ) {
      const kept = this.#kept[index];
      if (kept === undefined) {
        await this.#news(signal);
      } else {
        index++;
        yield [kept.event];
      }
    }
  }

  #news(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
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
