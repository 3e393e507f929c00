import assert from "node:assert/strict";
import test from "node:test";
import { DeathRecord } from "./restart-policy.ts";

const policy = { delayMsMin: 100, delayMsMax: 500, healthyRunMs: 1_000, deathsMax: 4 };

test("the delay doubles up to its limit, then the budget is used up", () => {
  const record = new DeathRecord(policy);
  const decisions = Array.from({ length: 5 }, () => record.add(0));
  assert.deepEqual(decisions, [
    { restartAfterMs: 100 },
    { restartAfterMs: 200 },
    { restartAfterMs: 400 },
    { restartAfterMs: 500 },
    { failed: true },
  ]);
});

test("a long run clears the record", () => {
  const record = new DeathRecord(policy);
  record.add(0);
  record.add(0);
  assert.deepEqual(record.add(policy.healthyRunMs), { restartAfterMs: 100 });
});
