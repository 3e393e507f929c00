import assert from "node:assert/strict";
import test from "node:test";
import { formatGoDuration } from "./go-duration.ts";

test("durations are written as Go writes them", () => {
  const cases: [number, string][] = [
    [0, "0s"],
    [0.000_001, "1ns"],
    [0.0015, "1.5\u00b5s"],
    [1.5, "1.5ms"],
    [100, "100ms"],
    [1000, "1s"],
    [90_500, "1m30.5s"],
    [3_600_000, "1h0m0s"],
  ];
  for (const [ms, text] of cases) {
    assert.equal(formatGoDuration(ms), text);
  }
});
