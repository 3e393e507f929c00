import assert from "node:assert/strict";
import test from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { ErrorKind, failure } from "#base/errors.ts";
import { EnvelopeSchema } from "#gen/containerd/types/event_pb.ts";
import { TestStores, turns } from "./gc/test-stores.ts";
import { OutboxPublisher, type Publish } from "./outbox-publisher.ts";

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
  const running = new OutboxPublisher(records, publish, (error) => failures.push(error)).run(stop.signal);
  await namespaces.create("a", {});
  await Promise.all(["b", "c", "d"].map((name) => namespaces.create(name, {})));
  while (taken.length < 4) {
    await turns(1);
  }
  const created = ["a", "b", "c", "d"].map((name) => `${name} /namespaces/create`);
  assert.deepEqual(taken, created);
  assert.equal(failures.length, 1, "only the first failure is told");
  assert.equal(new Set(ids).size, 4, "an event keeps its id when it is sent again");
  while (records.outbox.first(1).length > 0) {
    await turns(1);
  }

  gate = Promise.withResolvers();
  await namespaces.create("e", {});
  await turns(5);
  assert.equal(records.outbox.first(10).length, 1, "an event stays until it was taken");
  gate.resolve();
  while (taken.length < 5) {
    await turns(1);
  }
  stop.abort();
  await running;
  await namespaces.create("f", {});
  await turns(5);
  assert.deepEqual([taken.length, records.outbox.first(10).length], [5, 1], "what comes after the stop waits");
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
  const running = new OutboxPublisher(records, publish, (error) => failures.push(error)).run(stop.signal);
  while (records.outbox.first(1).length > 0) {
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
  assert.equal(records.outbox.first(10).length, 1);
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
  await new OutboxPublisher(records, publish, () => undefined).run(stop.signal);
  assert.deepEqual(calls, [256, 46, 1]);
});
