import assert from "node:assert/strict";
import test from "node:test";
import { Turns } from "./turns.ts";

test("a work that fails gives its turn on", async () => {
  const turns = new Turns(1);
  const failed = turns.run(() => Promise.reject(new Error("no")));
  const next = turns.run(() => Promise.resolve("yes"));
  await assert.rejects(failed, /no/);
  assert.equal(await next, "yes");
});

test("who no longer waits gets no turn, and the next one does", async () => {
  const turns = new Turns(1);
  const { promise, resolve } = Promise.withResolvers<void>();
  const first = turns.run(() => promise);
  const controller = new AbortController();
  const given = turns.run(() => Promise.resolve("given up"), controller.signal);
  const next = turns.run(() => Promise.resolve("next"));
  controller.abort(new Error("enough"));
  await assert.rejects(given, /enough/);
  resolve();
  await first;
  assert.equal(await next, "next");
  await assert.rejects(
    turns.run(() => Promise.resolve(), controller.signal),
    /enough/,
  );
});

test("turns are given in the order of asking, and given back once", async () => {
  const turns = new Turns(2);
  const first = await turns.take();
  await turns.take();
  const got: string[] = [];
  const waiting = ["a", "b"].map(async (name) => {
    const turn = await turns.take();
    got.push(name);
    return turn;
  });
  await Promise.resolve();
  assert.deepEqual(got, []);
  first[Symbol.dispose]();
  first[Symbol.dispose]();
  const a = await waiting[0];
  assert.deepEqual(got, ["a"], "giving back twice is once");
  a?.[Symbol.dispose]();
  await waiting[1];
  assert.deepEqual(got, ["a", "b"]);
});
