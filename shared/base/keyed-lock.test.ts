import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { KeyedLock } from "./keyed-lock.ts";

test("work that shares a key never overlaps, keeps its order, and all of it is done, failures or not", async () => {
  const job = fc.record({ keys: fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 4 }), fails: fc.boolean() });
  await fc.assert(
    fc.asyncProperty(fc.array(job, { maxLength: 12 }), fc.scheduler(), async (jobs, scheduler) => {
      const lock = new KeyedLock<number>();
      const running = new Set<number>();
      const done: number[] = [];
      const all = jobs.map(({ keys, fails }, index) =>
        lock.run(keys, async () => {
          assert.ok(keys.every((key) => !running.has(key)));
          keys.forEach((key) => running.add(key));
          await scheduler.schedule(Promise.resolve(), `job ${index}`);
          keys.forEach((key) => running.delete(key));
          done.push(index);
          if (fails) {
            throw new Error(`job ${index}`);
          }
          return index;
        }),
      );
      const outcomes = Promise.allSettled(all);
      await scheduler.waitFor(outcomes);
      const settled = await outcomes;
      assert.deepEqual(
        settled.map(({ status }) => status === "rejected"),
        jobs.map(({ fails }) => fails),
      );
      for (const key of [0, 1, 2, 3]) {
        const ofKey = done.filter((index) => jobs[index]?.keys.includes(key));
        assert.deepEqual(
          ofKey,
          ofKey.toSorted((left, right) => left - right),
        );
      }
    }),
  );
});

test("who gives up waiting lets the next one pass, in order, and never runs", async () => {
  const lock = new KeyedLock<string>();
  const first = Promise.withResolvers<void>();
  const order: string[] = [];
  const running = lock.run(["a"], async () => {
    await first.promise;
    order.push("first");
  });
  const giveUp = new AbortController();
  const abandoned = lock.run(["a", "b"], () => Promise.resolve(order.push("abandoned")), giveUp.signal);
  const last = lock.run(["b"], () => Promise.resolve(order.push("last")));
  giveUp.abort(new Error("enough"));
  await assert.rejects(abandoned, /enough/);
  assert.deepEqual(order, [], "those behind still wait for those before");
  first.resolve();
  await Promise.all([running, last]);
  assert.deepEqual(order, ["first", "last"]);
  await assert.rejects(
    lock.run(["a"], () => Promise.resolve(), giveUp.signal),
    /enough/,
  );
});
