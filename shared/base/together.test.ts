import assert from "node:assert/strict";
import test from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { together } from "./together.ts";

test("all are over when it is over, and the first failure counts", async () => {
  assert.deepEqual(await together([Promise.resolve(1), delay(1, "a")]), [1, "a"]);
  let isOver = false;
  const slow = delay(5).then(() => {
    isOver = true;
    throw new Error("first");
  });
  await assert.rejects(together([slow, Promise.reject(new Error("second"))]), { message: "first" });
  assert.equal(isOver, true);
});
