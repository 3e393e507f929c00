import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { formatTimestamp, parseTimestamp } from "./timestamp-text.ts";

test("what is written is read back, to the nanosecond", () => {
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 4_000_000_000_000_000_000n }), (ns) => {
      assert.equal(parseTimestamp(formatTimestamp(ns)), ns);
    }),
  );
});

test("times of another zone, as a daemon with local time writes them, are read", () => {
  const ns = parseTimestamp("2026-08-12T11:30:00.000000001+05:30");
  assert.equal(ns, parseTimestamp("2026-08-12T06:00:00.000000001Z"));
  assert.equal(formatTimestamp(ns), "2026-08-12T06:00:00.000000001Z");
});

test("what is no time is refused", () => {
  for (const text of [
    "",
    "yesterday",
    "2026-08-12",
    "2026-13-12T11:30:00Z",
    "2026-08-12T11:30:00",
    "2026-08-12T11:30:00.Z",
  ]) {
    assert.throws(() => parseTimestamp(text), /is no RFC 3339 time/, text);
  }
});
