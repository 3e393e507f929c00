import assert from "node:assert/strict";
import test from "node:test";
import { TaskTable } from "./task-table.ts";

const blue = { namespace: "blue", id: "one" };

test("an id is reserved once, and free again when it is released or its task removed", async () => {
  const table = new TaskTable();
  await table.reserve("blue", "one");
  await table.reserve("red", "one");
  await assert.rejects(table.reserve("blue", "one"), { message: "task one: already exists" });
  table.release("blue", "one");
  await table.reserve("blue", "one");
  table.add(blue);
  await assert.rejects(table.reserve("blue", "one"), { message: "task one: already exists" });
  assert.equal(table.find("blue", "one"), blue);
  assert.deepEqual(table.list("red"), []);
  assert.equal(table.remove(blue), true);
  assert.equal(table.remove(blue), false);
  await table.reserve("blue", "one");
});

test("whether there is a task is told once none is being made", async () => {
  const table = new TaskTable();
  assert.equal(await table.findOnceMade("blue", "one"), undefined);
  await table.reserve("blue", "one");
  const made = table.findOnceMade("blue", "one");
  await assert.rejects(table.findOnceMade("blue", "one", AbortSignal.abort(new Error("given up"))), /given up/);
  table.add(blue);
  assert.equal(await made, blue);
  await table.reserve("blue", "two");
  const failed = table.findOnceMade("blue", "two");
  table.release("blue", "two");
  assert.equal(await failed, undefined);
  await assert.rejects(table.reserve("blue", "three", AbortSignal.abort(new Error("given up"))), /given up/);
  assert.equal(await table.findOnceMade("blue", "three"), undefined);
});

test("a task does not remove another that has taken its place", () => {
  const table = new TaskTable();
  const successor = { ...blue };
  table.add(blue);
  table.add(successor);
  assert.equal(table.remove(blue), false);
  assert.equal(table.find("blue", "one"), successor);
});

test("an id waits until what its last task left has settled", async () => {
  const table = new TaskTable();
  const cleared = Promise.withResolvers<void>();
  table.settle(blue, cleared.promise);
  let isReserved = false;
  const reserved = table.reserve("blue", "one").then(() => {
    isReserved = true;
  });
  await table.reserve("blue", "two");
  await assert.rejects(table.reserve("blue", "one", AbortSignal.abort(new Error("given up"))), /given up/);
  const giveUp = new AbortController();
  const given = assert.rejects(table.reserve("blue", "one", giveUp.signal), /given up/);
  giveUp.abort(new Error("given up"));
  await given;
  assert.equal(isReserved, false);
  cleared.resolve();
  await reserved;
  await table.settled();
});
