import assert from "node:assert/strict";
import { setTimeout as delay } from "node:timers/promises";
import { createClient, type Transport } from "@connectrpc/connect";
import { Events } from "#gen/containerd/services/events/v1/events_pb.ts";
import type { Envelope } from "#gen/containerd/types/event_pb.ts";

const waitMsMax = 30_000;

export interface SubscribeOptions {
  readonly filters?: readonly string[];
  readonly headers?: Readonly<Record<string, string>>;
}

/** A client's subscription. */
export class Subscriber implements AsyncDisposable {
  readonly #stop = new AbortController();
  readonly #events: AsyncIterator<Envelope>;
  #pending: Promise<IteratorResult<Envelope>> | undefined;

  private constructor(transport: Transport, { filters, headers }: SubscribeOptions, onHeader: () => void) {
    const call = createClient(Events, transport).subscribe(
      { filters: [...(filters ?? [])] },
      { signal: this.#stop.signal, headers: { ...headers }, onHeader },
    );
    this.#events = call[Symbol.asyncIterator]();
    this.#pending = this.#events.next();
    this.#pending.catch(() => undefined);
  }

  /** Subscribes; every event that is published once this has resolved will be seen. */
  static async start(transport: Transport, options: SubscribeOptions = {}): Promise<Subscriber> {
    const acknowledged = Promise.withResolvers<void>();
    const subscriber = new Subscriber(transport, options, acknowledged.resolve);
    await Promise.race([acknowledged.promise, subscriber.#pending]);
    return subscriber;
  }

  /** The next event; fails when none comes in time, or the subscription has ended. */
  async next(): Promise<Envelope> {
    const timer = new AbortController();
    const late = delay(waitMsMax, undefined, { signal: timer.signal });
    const pending = this.#pending ?? this.#events.next();
    this.#pending = undefined;
    try {
      const result = await Promise.race([pending, late]);
      assert.ok(result !== undefined && result.done !== true, "no event came");
      return result.value;
    } finally {
      timer.abort();
      late.catch(() => undefined);
    }
  }

  /** Tells each event as it comes, until the subscription has ended. @throws why it ended. */
  async each(tell: (event: Envelope) => void): Promise<never> {
    for (;;) {
      const result = await (this.#pending ?? this.#events.next());
      this.#pending = undefined;
      assert.ok(result.done !== true, "the subscription has ended");
      tell(result.value);
    }
  }

  /** The topics of the next events. */
  async topics(count: number): Promise<string[]> {
    const topics: string[] = [];
    while (topics.length < count) {
      topics.push((await this.next()).topic);
    }
    return topics;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#events.return?.().catch(() => undefined);
  }
}
