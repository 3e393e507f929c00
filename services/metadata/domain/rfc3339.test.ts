import assert from "node:assert/strict";
import test from "node:test";
import { findRfc3339Ms } from "./rfc3339.ts";

test("times of labels", () => {
  const noon = Date.UTC(2026, 1, 28, 12);
  const cases: Record<string, number | undefined> = {
    "2026-02-28T12:00:00Z": noon,
    "2026-02-28T12:00:00.25Z": noon + 250,
    "2026-02-28T14:30:00+02:30": noon,
    "2026-02-28T04:00:00-08:00": noon,
    "9999-12-31T23:59:59Z": Date.UTC(9999, 11, 31, 23, 59, 59),
    "0001-01-01T00:00:00Z": -62_135_596_800_000,
    "2026-02-30T12:00:00Z": undefined,
    "2026-13-01T12:00:00Z": undefined,
    "2026-02-28T24:00:00Z": undefined,
    "2026-02-28T12:60:00Z": undefined,
    "2026-02-28 12:00:00Z": undefined,
    "2026-02-28T12:00:00": undefined,
    "": undefined,
  };
  for (const [text, ms] of Object.entries(cases)) {
    assert.equal(findRfc3339Ms(text), ms, text);
  }
});
