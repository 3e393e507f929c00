import assert from "node:assert/strict";
import test from "node:test";
import { EventFeed } from "./event-feed.ts";

async function take<T>(events: AsyncIterator<T>, count: number): Promise<T[]> {
  const taken: T[] = [];
  for (let index = 0; index < count; index += 1) {
    const { value } = await events.next();
    taken.push(value);
  }
  return taken;
}

test("every subscriber gets every event in order", async () => {
  const feed = new EventFeed<number>();
  const stop = new AbortController();
  const all = [feed.subscribe(stop.signal), feed.subscribe(stop.signal)];
  const takes = all.map((events) => take(events, 3));
  await new Promise(setImmediate);
  [1, 2, 3].forEach((event) => feed.publish(event));
  assert.deepEqual(await Promise.all(takes), [
    [1, 2, 3],
    [1, 2, 3],
  ]);
  stop.abort();
});

test("what happens while nobody subscribes is kept for minutes, for one", async () => {
  let nowMs = 0;
  const feed = new EventFeed<number>(() => nowMs);
  feed.publish(1);
  nowMs = 200_000;
  feed.publish(2);
  nowMs = 301_000;
  const stop = new AbortController();
  assert.deepEqual(await take(feed.subscribe(stop.signal), 1), [2]);
  const second = take(feed.subscribe(stop.signal), 1);
  await new Promise(setImmediate);
  feed.publish(3);
  assert.deepEqual(await second, [3]);
  stop.abort();
});

test("a subscriber that takes nothing is let go of, and others go on", async () => {
  const feed = new EventFeed<number>();
  const stop = new AbortController();
  const slow = feed.subscribe(stop.signal);
  const fast = feed.subscribe(stop.signal);
  const first = [take(slow, 1), take(fast, 1)];
  await new Promise(setImmediate);
  feed.publish(0);
  await Promise.all(first);
  for (let event = 1; event <= 1500; event += 1) {
    feed.publish(event);
    assert.deepEqual(await take(fast, 1), [event]);
  }
  await assert.rejects(slow.next(), { message: "the subscriber left 1000 events waiting: resource exhausted" });
  stop.abort();
});

test("a subscription ends with its signal", async () => {
  const feed = new EventFeed<number>();
  const stop = new AbortController();
  const next = feed.subscribe(stop.signal).next();
  await new Promise(setImmediate);
  stop.abort();
  assert.equal((await next).done, true);
});
