import assert from "node:assert/strict";
import test from "node:test";
import { openClock } from "./clock.ts";

const nsPerMs = 1_000_000n;

test("the clock is finer than a millisecond and never far from the wall clock", () => {
  const clock = openClock();
  const seen = Array.from({ length: 1000 }, clock);
  assert.ok(new Set(seen.map((ns) => ns % nsPerMs)).size > 100);
  for (const [index, ns] of seen.entries()) {
    assert.ok(index === 0 || ns > (seen[index - 1] ?? 0n));
  }
});

test("the clock follows the wall clock when that is set", (context) => {
  const clock = openClock();
  const hour = 3_600_000;
  context.mock.timers.enable({ apis: ["Date"], now: Date.now() + hour });
  const setForward = Date.now();
  assert.equal(clock() / nsPerMs, BigInt(setForward));
  context.mock.timers.setTime(setForward - 2 * hour);
  assert.equal(clock() / nsPerMs, BigInt(setForward - 2 * hour));
});
