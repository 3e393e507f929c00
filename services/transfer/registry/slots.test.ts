import assert from "node:assert/strict";
import test from "node:test";
import { ErrorKind } from "#base/errors.ts";
import { Slots, SlotsByName } from "./slots.ts";

const never = new AbortController().signal;

test("places are given in the order of asking, and given back once", async () => {
  const slots = new Slots(2);
  const first = await slots.take(never);
  await slots.take(never);
  const got: string[] = [];
  const waiting = ["a", "b"].map(async (name) => {
    const slot = await slots.take(never);
    got.push(name);
    return slot;
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

test("who no longer wants a place does not keep it", async () => {
  const slots = new Slots(1);
  const taken = await slots.take(never);
  const controller = new AbortController();
  const given = slots.take(controller.signal);
  const next = slots.take(never);
  controller.abort();
  await assert.rejects(given, { kind: ErrorKind.Canceled });
  await assert.rejects(slots.take(controller.signal), { kind: ErrorKind.Canceled });
  taken[Symbol.dispose]();
  (await next)[Symbol.dispose]();
});

test("no limit is no limit", async () => {
  const slots = new Slots(0);
  await Promise.all(Array.from({ length: 100 }, () => slots.take(never)));
});

test("places of one name are shared while somebody uses them", async () => {
  const byName = new SlotsByName();
  const one = byName.use("a", 1);
  const two = byName.use("a", 1);
  assert.equal(one.slots, two.slots);
  assert.notEqual(byName.use("b", 1).slots, one.slots);
  assert.notEqual(byName.use("a", 2).slots, one.slots, "another number of places are other places");
  one[Symbol.dispose]();
  one[Symbol.dispose]();
  assert.equal(byName.use("a", 1).slots, two.slots);
  two[Symbol.dispose]();
  assert.equal(byName.use("a", 1).slots, two.slots, "the third user still has them");
});
