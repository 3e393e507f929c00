import assert from "node:assert/strict";
import test from "node:test";
import { OwedPing } from "./owed-ping.ts";

const word = (text: string): Buffer => Buffer.from(text.padEnd(8));

test("a PING is answered when something else leaves, once", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const answers: string[] = [];
  const owed = new OwedPing((opaque) => answers.push(opaque.toString().trim()));
  owed.owe(word("one"), 0);
  assert.deepEqual(answers, []);
  owed.pay();
  owed.pay();
  context.mock.timers.tick(1_000);
  assert.deepEqual(answers, ["one"]);
});

test("a second PING has the first answered, and keeps what it said though its bytes change", (context) => {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const answers: string[] = [];
  const owed = new OwedPing((opaque) => answers.push(opaque.toString().trim()));
  const bytes = Buffer.concat([word("one"), word("two")]);
  owed.owe(bytes, 0);
  owed.owe(bytes, 8);
  bytes.fill(0);
  assert.deepEqual(answers, ["one"]);
  owed.pay();
  assert.deepEqual(answers, ["one", "two"]);
});

test("nothing leaves within some milliseconds: the answer goes alone, unless the connection has ended", async () => {
  const answered = Promise.withResolvers<string>();
  const owed = new OwedPing((opaque) => answered.resolve(opaque.toString().trim()));
  const forgotten = new OwedPing(() => assert.fail("nobody is there"));
  forgotten.owe(word("lost"), 0);
  forgotten.forget();
  owed.owe(word("late"), 0);
  // The timer of an answer keeps no process alive.
  const alive = setTimeout(() => answered.resolve("never"), 5_000);
  assert.equal(await answered.promise, "late");
  clearTimeout(alive);
});
