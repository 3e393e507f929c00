import assert from "node:assert/strict";
import test from "node:test";
import { formatGoDuration, formatGoTime } from "./go-text.ts";

test("durations are printed as Go prints them", () => {
  for (const [ns, text] of [
    [0n, "0s"],
    [1n, "1ns"],
    [1_100n, "1.1µs"],
    [2_200_000n, "2.2ms"],
    [1_000_000_000n, "1s"],
    [3_300_000_001n, "3.300000001s"],
    [60_000_000_000n, "1m0s"],
    [245_001_000_000n, "4m5.001s"],
    [3_600_000_000_000n, "1h0m0s"],
    [18_367_001_000_000n, "5h6m7.001s"],
  ] as const) {
    assert.equal(formatGoDuration(ns), text);
  }
});

test("times are printed as Go prints them in UTC", () => {
  const ns = BigInt(Date.UTC(2026, 7, 12, 9, 8, 5)) * 1_000_000n;
  assert.equal(formatGoTime(ns), "2026-08-12 09:08:05 +0000 UTC");
  assert.equal(formatGoTime(ns + 123_456_700n), "2026-08-12 09:08:05.1234567 +0000 UTC");
});
