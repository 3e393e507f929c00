import assert from "node:assert/strict";
import test from "node:test";
import { TurnsByName, turnsOf } from "./turns-by-name.ts";

test("no limit is no limit", async () => {
  const turns = turnsOf(0);
  await Promise.all(Array.from({ length: 100 }, () => turns.take()));
});

test("turns of one name are shared while somebody uses them", () => {
  const byName = new TurnsByName();
  const one = byName.use("a", 1);
  const two = byName.use("a", 1);
  assert.equal(one.turns, two.turns);
  assert.notEqual(byName.use("b", 1).turns, one.turns);
  assert.notEqual(byName.use("a", 2).turns, one.turns, "another number of turns are other turns");
  one[Symbol.dispose]();
  one[Symbol.dispose]();
  assert.equal(byName.use("a", 1).turns, two.turns);
  two[Symbol.dispose]();
  assert.equal(byName.use("a", 1).turns, two.turns, "the third user still has them");
});
