import assert from "node:assert/strict";
import test from "node:test";
import { formatGoTime } from "./go-text.ts";

test("times are printed as Go prints them in UTC", () => {
  const ns = BigInt(Date.UTC(2026, 7, 12, 9, 8, 5)) * 1_000_000n;
  assert.equal(formatGoTime(ns), "2026-08-12 09:08:05 +0000 UTC");
  assert.equal(formatGoTime(ns + 123_456_700n), "2026-08-12 09:08:05.1234567 +0000 UTC");
});
