import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { findRfc3339Ns, formatGoTime, formatRfc3339, nsPerMs, timestampOf, wallClock } from "./times.ts";

test("the clock is finer than a millisecond and never behind the system's", () => {
  for (let round = 0; round < 2_000; round += 1) {
    const before = BigInt(Date.now()) * nsPerMs;
    const now = wallClock();
    const after = BigInt(Date.now() + 1) * nsPerMs;
    assert.ok(before <= now && now <= after, `${before} <= ${now} <= ${after}`);
  }
  const seen = Array.from({ length: 1000 }, wallClock);
  assert.ok(new Set(seen.map((ns) => ns % nsPerMs)).size > 10);
});

test("times of labels and files", () => {
  const noon = BigInt(Date.UTC(2026, 1, 28, 12)) * nsPerMs;
  const cases: Record<string, bigint | undefined> = {
    "2026-02-28T12:00:00Z": noon,
    "2026-02-28T12:00:00.25Z": noon + 250_000_000n,
    "2026-02-28T12:00:00.0000000019Z": noon + 1n,
    "2026-02-28T14:30:00.000000001+02:30": noon + 1n,
    "2026-02-28T04:00:00-08:00": noon,
    "9999-12-31T23:59:59Z": BigInt(Date.UTC(9999, 11, 31, 23, 59, 59)) * nsPerMs,
    "0001-01-01T00:00:00Z": -62_135_596_800_000n * nsPerMs,
    "2026-02-30T12:00:00Z": undefined,
    "2026-13-01T12:00:00Z": undefined,
    "2026-02-28T24:00:00Z": undefined,
    "2026-02-28T12:60:00Z": undefined,
    "2026-02-28 12:00:00Z": undefined,
    "2026-02-28T12:00:00": undefined,
    "2026-02-28T12:00:00.Z": undefined,
    "2026-02-28": undefined,
    yesterday: undefined,
    "": undefined,
  };
  for (const [text, ns] of Object.entries(cases)) {
    assert.equal(findRfc3339Ns(text), ns, text);
  }
});

test("what is written is read back, to the nanosecond", () => {
  fc.assert(
    fc.property(fc.bigInt({ min: -62_000_000_000_000_000_000n, max: 4_000_000_000_000_000_000n }), (ns) => {
      const time = timestampOf(ns);
      assert.ok(time.nanos >= 0 && time.nanos < 1_000_000_000);
      assert.equal(findRfc3339Ns(formatRfc3339(time)), ns);
    }),
  );
});

test("times are written as Go writes them", () => {
  const ns = BigInt(Date.UTC(2026, 7, 12, 9, 8, 5)) * nsPerMs;
  assert.equal(formatGoTime(timestampOf(ns)), "2026-08-12 09:08:05 +0000 UTC");
  assert.equal(formatGoTime(timestampOf(ns + 123_456_700n)), "2026-08-12 09:08:05.1234567 +0000 UTC");
  assert.equal(formatRfc3339(timestampOf(ns)), "2026-08-12T09:08:05Z");
  assert.equal(formatRfc3339(timestampOf(ns + 1n)), "2026-08-12T09:08:05.000000001Z");
});
