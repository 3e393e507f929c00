import assert from "node:assert/strict";
import test from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { ErrorKind, failure, isFailure } from "#base/errors.ts";
import { EnvelopeSchema } from "#gen/containerd/types/event_pb.ts";
import { TestStores, turns } from "./gc/test-stores.ts";
import { OutboxPublisher, type Publish, type PublisherReports } from "./outbox-publisher.ts";
import type { OutboxState } from "./store/outbox.ts";

function reports(given: Partial<PublisherReports> = {}): PublisherReports {
  return { onFailure: () => undefined, onRefused: () => undefined, onWaiting: () => undefined, ...given };
}

function topicOf(envelope: Uint8Array): string {
  const { namespace, topic } = fromBinary(EnvelopeSchema, envelope);
  return `${namespace} ${topic}`;
}

test("events go out in order, each until it was taken", { timeout: 60_000 }, async () => {
  using opened = new TestStores();
  const { records, namespaces } = opened.stores;
  const taken: string[] = [];
  const ids: string[] = [];
  const failures: unknown[] = [];
  let refuse = 2;
  let gate: PromiseWithResolvers<void> | undefined;
  const publish: Publish = async (events) => {
    await gate?.promise;
    ids.push(...events.map(({ messageId }) => messageId));
    if (refuse > 0) {
      refuse -= 1;
      throw new Error("away");
    }
    taken.push(...events.map(({ envelope }) => topicOf(envelope)));
  };
  const stop = new AbortController();
  const running = new OutboxPublisher(records, publish, reports({ onFailure: (error) => failures.push(error) })).run(
    stop.signal,
  );
  await namespaces.create("a", {});
  await Promise.all(["b", "c", "d"].map((name) => namespaces.create(name, {})));
  while (taken.length < 4) {
    await turns(1);
  }
  const created = ["a", "b", "c", "d"].map((name) => `${name} /namespaces/create`);
  assert.deepEqual(taken, created);
  assert.equal(failures.length, 1, "only the first failure is told");
  assert.equal(new Set(ids).size, 4, "an event keeps its id when it is sent again");
  while (records.outbox.next(1).length > 0) {
    await turns(1);
  }

  gate = Promise.withResolvers();
  await namespaces.create("e", {});
  await turns(5);
  assert.equal(records.outbox.next(10).length, 1, "an event stays until it was taken");
  gate.resolve();
  while (taken.length < 5) {
    await turns(1);
  }
  stop.abort();
  await running;
  await namespaces.create("f", {});
  await turns(5);
  assert.deepEqual([taken.length, records.outbox.next(10).length], [5, 1], "what comes after the stop waits");
});

test("events that come one soon after the other go out by one call", { timeout: 60_000 }, async () => {
  using opened = new TestStores();
  const { records, namespaces } = opened.stores;
  const calls: number[] = [];
  const stop = new AbortController();
  const publish: Publish = async (events) => {
    calls.push(events.length);
    stop.abort();
  };
  const running = new OutboxPublisher(records, publish, reports(), { gatherMs: 500 }).run(stop.signal);
  await turns(1);
  for (const name of ["a", "b", "c"]) {
    await namespaces.create(name, {});
  }
  await running;
  assert.deepEqual(calls, [3]);
});

test("an event that is never taken is told of and holds nothing up", { timeout: 60_000 }, async () => {
  using opened = new TestStores();
  const { records, namespaces } = opened.stores;
  for (const name of ["a", "b", "large", "c", "d"]) {
    await namespaces.create(name, {});
  }
  const taken: string[] = [];
  const failures: unknown[] = [];
  const publish: Publish = (events) => {
    const topics = events.map(({ envelope }) => topicOf(envelope));
    if (topics.some((topic) => topic.startsWith("large "))) {
      return Promise.reject(failure(ErrorKind.ResourceExhausted, "too large"));
    }
    taken.push(...topics);
    return Promise.resolve();
  };
  const stop = new AbortController();
  const running = new OutboxPublisher(records, publish, reports({ onRefused: (error) => failures.push(error) })).run(
    stop.signal,
  );
  while (records.outbox.next(1).length > 0) {
    await turns(1);
  }
  stop.abort();
  await running;
  assert.deepEqual(
    taken,
    ["a", "b", "c", "d"].map((name) => `${name} /namespaces/create`),
  );
  assert.equal(failures.length, 1);
});

test("an event belongs to its change", async () => {
  using opened = new TestStores();
  const { records, namespaces } = opened.stores;
  await namespaces.create("a", {});
  await assert.rejects(namespaces.create("a", {}));
  assert.equal(records.outbox.next(10).length, 1);
});

test("calls are bounded", { timeout: 60_000 }, async () => {
  using opened = new TestStores();
  const { records, namespaces } = opened.stores;
  const label = "v".repeat(4_000);
  const labels = Object.fromEntries(Array.from({ length: 500 }, (_, number) => [`l${number}`, label]));
  const names = Array.from({ length: 300 }, (_, number) => `small${number}`);
  await Promise.all(names.map((name) => namespaces.create(name, {})));
  await Promise.all(["large0", "large1", "large2"].map((name) => namespaces.create(name, labels)));
  const calls: number[] = [];
  const stop = new AbortController();
  const publish: Publish = async (events) => {
    calls.push(events.length);
    if (calls.reduce((sum, count) => sum + count) === 303) {
      stop.abort();
    }
  };
  await new OutboxPublisher(records, publish, reports()).run(stop.signal);
  assert.deepEqual(calls, [256, 46, 1]);
});

test("events that were published are not sent again by the next process", { timeout: 60_000 }, async () => {
  using opened = new TestStores();
  const { records, namespaces } = opened.stores;
  const stored = records.database.prepare<[], number>("SELECT count(*) FROM outbox").pluck();
  const stop = new AbortController();
  const taken: string[] = [];
  const publish: Publish = async (events) => {
    taken.push(...events.map(({ envelope }) => topicOf(envelope)));
    if (taken.length === 3) {
      stop.abort();
    }
  };
  const running = new OutboxPublisher(records, publish, reports()).run(stop.signal);
  for (const name of ["a", "b", "c"]) {
    await namespaces.create(name, {});
  }
  await running;
  assert.deepEqual([taken.length, stored.get()], [3, 0]);
});

test("while too many events wait nothing can be changed, and it is told how many wait since when", {
  timeout: 60_000,
}, async () => {
  using opened = new TestStores("shared", { waitingEventsMax: 3 });
  const { records, namespaces } = opened.stores;
  const told: OutboxState[] = [];
  const stop = new AbortController();
  let away = true;
  const publish: Publish = async () => {
    if (away) {
      throw new Error("away");
    }
  };
  const onWaiting = (state: OutboxState): void => {
    told.push(state);
  };
  const running = new OutboxPublisher(records, publish, reports({ onWaiting }), { reportMs: 0 }).run(stop.signal);
  const firstNs = BigInt(opened.nowMs) * 1_000_000n;
  for (const name of ["a", "b", "c"]) {
    await namespaces.create(name, {});
    opened.nowMs += 1_000;
  }
  await assert.rejects(
    namespaces.create("d", {}),
    (error) => isFailure(error, ErrorKind.Unavailable) && error.message.startsWith("3 events wait to be published"),
  );
  assert.deepEqual(records.outbox.state(), { count: 3, oldestNs: firstNs });
  while (told.at(-1)?.count !== 3) {
    await turns(1);
  }
  assert.equal(told.at(-1)?.oldestNs, firstNs);

  away = false;
  while (records.outbox.state().count > 0) {
    await turns(1);
  }
  await namespaces.create("d", {});
  stop.abort();
  await running;
});
