import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { create, equals } from "@bufbuild/protobuf";
import { EnvelopeSchema } from "#gen/containerd/types/event_pb.ts";
import type { EventBus, NewEvent, StoredEvent } from "../../services/events/bus/bus.ts";

/** A bus under test, with whatever it needs. */
export interface OpenedBus extends AsyncDisposable {
  readonly bus: EventBus;
}

const waitMsMax = 20_000;

/** Makes an event that can be told from all others by its topic. */
export function eventNamed(name: string, payload: Uint8Array = Buffer.from(name)): NewEvent {
  return {
    messageId: `${name}-${randomUUID()}`,
    envelope: create(EnvelopeSchema, {
      timestamp: { seconds: 1_700_000_000n, nanos: 123_456_789 },
      namespace: "k8s.io",
      topic: `/suite/${name}`,
      event: { typeUrl: "suite.Event", value: payload },
    }),
  };
}

/** Reads events one after the other, each within a bound. */
export class EventReader {
  readonly #events: AsyncIterator<StoredEvent>;

  constructor(events: AsyncIterable<readonly StoredEvent[]>) {
    this.#events = oneByOne(events);
  }

  async next(): Promise<StoredEvent> {
    const timer = new AbortController();
    const late = delay(waitMsMax, undefined, { signal: timer.signal });
    const outcome = await Promise.race([this.#events.next(), late]);
    timer.abort();
    late.catch(() => undefined);
    assert.ok(outcome !== undefined && outcome.done !== true, "no event came");
    return outcome.value;
  }

  async topics(count: number): Promise<string[]> {
    const topics: string[] = [];
    while (topics.length < count) {
      topics.push((await this.next()).envelope.topic);
    }
    return topics;
  }

  /** Resolves when the events have ended. */
  async end(): Promise<void> {
    for (;;) {
      const result = await this.#events.next();
      if (result.done === true) {
        return;
      }
    }
  }
}

async function* oneByOne(events: AsyncIterable<readonly StoredEvent[]>): AsyncGenerator<StoredEvent> {
  for await (const several of events) {
    yield* several;
  }
}

function names(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}${index}`);
}

function topicsOf(named: readonly string[]): string[] {
  return named.map((name) => `/suite/${name}`);
}

/** What every implementation of {@link EventBus} keeps. */
export function eventBusSuite(implementation: string, open: () => Promise<OpenedBus>): void {
  describe(`event bus: ${implementation}`, () => {
    test("subscribers see every event once, in order, as it was appended", async () => {
      await using opened = await open();
      using stop = new Stop();
      const first = new EventReader(await opened.bus.subscribe({ kind: "now" }, stop.signal));
      const second = new EventReader(await opened.bus.subscribe({ kind: "now" }, stop.signal));
      const events = names("e", 300).map((name) => eventNamed(name));
      await opened.bus.append(events.slice(0, 1));
      await Promise.all([opened.bus.append(events.slice(1, 200)), opened.bus.append(events.slice(200))]);
      let before = 0;
      for (const { envelope } of events) {
        const seen = await first.next();
        assert.ok(equals(EnvelopeSchema, seen.envelope, envelope), seen.envelope.topic);
        assert.ok(seen.sequence > before);
        before = seen.sequence;
        assert.deepEqual(await second.next(), seen);
      }
    });

    test("a subscription starts with what is appended after it", async () => {
      await using opened = await open();
      using stop = new Stop();
      await opened.bus.append([eventNamed("before")]);
      const reader = new EventReader(await opened.bus.subscribe({ kind: "now" }, stop.signal));
      await opened.bus.append([eventNamed("after")]);
      assert.deepEqual(await reader.topics(1), ["/suite/after"]);
    });

    test("an event is stored once, however often it is appended", async () => {
      await using opened = await open();
      using stop = new Stop();
      const reader = new EventReader(await opened.bus.subscribe({ kind: "now" }, stop.signal));
      const [first, second, last] = [eventNamed("first"), eventNamed("second"), eventNamed("last")];
      await opened.bus.append([first, second]);
      await opened.bus.append([first, second]);
      await opened.bus.append([second, last]);
      assert.deepEqual(await reader.topics(3), topicsOf(["first", "second", "last"]));
      await opened.bus.append([eventNamed("end")]);
      assert.deepEqual(await reader.topics(1), ["/suite/end"]);
    });

    test("a subscription goes on at a place that another has told", async () => {
      await using opened = await open();
      using stop = new Stop();
      await opened.bus.append([eventNamed("before")]);
      const first = await opened.bus.subscribe({ kind: "now" }, stop.signal);
      await opened.bus.append(names("p", 5).map((name) => eventNamed(name)));
      const { start: position } = first;
      const again = await opened.bus.subscribe({ kind: "position", position }, stop.signal);
      assert.deepEqual(again.start, position);
      assert.deepEqual(await new EventReader(again).topics(5), topicsOf(names("p", 5)));
      const seen = new EventReader(first);
      await seen.next();
      const { sequence } = await seen.next();
      const later = { kind: "position", position: { ...position, sequence } } as const;
      const reader = new EventReader(await opened.bus.subscribe(later, stop.signal));
      assert.deepEqual(await reader.topics(4), topicsOf(names("p", 5).slice(1)));
    });

    test("a subscription may start with a sequence of the past", async () => {
      await using opened = await open();
      using stop = new Stop();
      const live = new EventReader(await opened.bus.subscribe({ kind: "now" }, stop.signal));
      const past = names("p", 20);
      await opened.bus.append(past.map((name) => eventNamed(name)));
      const seen: StoredEvent[] = [];
      while (seen.length < past.length) {
        seen.push(await live.next());
      }
      const fifth = seen[4]?.sequence ?? 0;
      const reader = new EventReader(await opened.bus.subscribe({ kind: "sequence", sequence: fifth }, stop.signal));
      await opened.bus.append([eventNamed("new")]);
      assert.deepEqual(await reader.topics(17), topicsOf([...past.slice(4), "new"]));
      const all = new EventReader(await opened.bus.subscribe({ kind: "sequence", sequence: 0 }, stop.signal));
      assert.deepEqual(await all.topics(21), topicsOf([...past, "new"]));
      const future = { kind: "sequence", sequence: 1_000_000 } as const;
      const none = new EventReader(await opened.bus.subscribe(future, stop.signal));
      await opened.bus.append([eventNamed("newest")]);
      assert.deepEqual(await none.topics(1), ["/suite/newest"]);
    });

    test("a subscription may start with a time of the past", async () => {
      await using opened = await open();
      using stop = new Stop();
      await opened.bus.append(names("old", 5).map((name) => eventNamed(name)));
      await delay(20);
      const timeNs = BigInt(Date.now()) * 1_000_000n;
      await delay(20);
      await opened.bus.append(names("new", 5).map((name) => eventNamed(name)));
      const reader = new EventReader(await opened.bus.subscribe({ kind: "time", timeNs }, stop.signal));
      assert.deepEqual(await reader.topics(5), topicsOf(names("new", 5)));
      const all = new EventReader(await opened.bus.subscribe({ kind: "time", timeNs: 0n }, stop.signal));
      assert.deepEqual(await all.topics(10), topicsOf([...names("old", 5), ...names("new", 5)]));
    });

    test("who reads slowly loses nothing", async () => {
      await using opened = await open();
      using stop = new Stop();
      const slow = new EventReader(await opened.bus.subscribe({ kind: "now" }, stop.signal));
      const many = names("m", 6_000);
      for (let index = 0; index < many.length; index += 500) {
        await opened.bus.append(many.slice(index, index + 500).map((name) => eventNamed(name)));
      }
      assert.deepEqual(await slow.topics(many.length), topicsOf(many));
    });

    test("aborting ends a subscription without an error", async () => {
      await using opened = await open();
      using stop = new Stop();
      const waiting = new EventReader(await opened.bus.subscribe({ kind: "now" }, stop.signal));
      const end = waiting.end();
      stop.controller.abort();
      await end;
    });

    test("payloads may be empty, binary and large", async () => {
      await using opened = await open();
      using stop = new Stop();
      const reader = new EventReader(await opened.bus.subscribe({ kind: "now" }, stop.signal));
      const payloads = [Buffer.alloc(0), Buffer.from([0, 255, 13, 10, 128]), Buffer.alloc(3_000_000, 0x81)];
      await opened.bus.append(payloads.map((payload, index) => eventNamed(`payload${index}`, payload)));
      for (const payload of payloads) {
        const { envelope } = await reader.next();
        assert.ok(Buffer.from(envelope.event?.value ?? []).equals(payload));
      }
    });
  });
}

/** Ends subscriptions when a test is over. */
export class Stop implements Disposable {
  readonly controller = new AbortController();

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  [Symbol.dispose](): void {
    this.controller.abort();
  }
}
