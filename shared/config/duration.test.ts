import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { formatDuration, parseDuration } from "./duration.ts";

test("durations of every unit, sign and fraction", () => {
  for (const [text, milliseconds] of [
    ["0", 0],
    ["-0", 0],
    ["0s", 0],
    ["5s", 5_000],
    ["+5s", 5_000],
    ["-5s", -5_000],
    ["1m0s", 60_000],
    ["4h0m0s", 14_400_000],
    ["1h30m", 5_400_000],
    ["1.5s", 1_500],
    [".5s", 500],
    ["5.s", 5_000],
    ["100ms", 100],
    ["1us", 0.001],
    ["1\u00b5s", 0.001],
    ["1\u03bcs", 0.001],
    ["1ns", 0.000001],
    ["0.3ns", 0],
    ["3s5ms", 3_005],
    ["2h2h", 14_400_000],
  ] as const) {
    assert.equal(parseDuration(text), milliseconds, text);
  }
});

test("what is no duration is refused with Go's text", () => {
  for (const [text, message] of [
    ["", 'time: invalid duration ""'],
    ["-", 'time: invalid duration "-"'],
    ["s", 'time: invalid duration "s"'],
    [".", 'time: invalid duration "."'],
    [".s", 'time: invalid duration ".s"'],
    ["1s-", 'time: unknown unit "s-" in duration "1s-"'],
    ["5", 'time: missing unit in duration "5"'],
    ["3000000h", 'time: invalid duration "3000000h"'],
    ["5d", 'time: unknown unit "d" in duration "5d"'],
    ["5 s", 'time: unknown unit " s" in duration "5 s"'],
    ["1toString", 'time: unknown unit "toString" in duration "1toString"'],
  ] as const) {
    assert.throws(() => parseDuration(text), { message }, text);
  }
});

test("durations are written as Go writes them", () => {
  for (const [milliseconds, text] of [
    [0, "0s"],
    [-0.0000001, "0s"],
    [0.000001, "1ns"],
    [0.0015, "1.5\u00b5s"],
    [100, "100ms"],
    [1.1, "1.1ms"],
    [1_500, "1.5s"],
    [60_000, "1m0s"],
    [3_600_000, "1h0m0s"],
    [-90_061_001, "-25h1m1.001s"],
  ] as const) {
    assert.equal(formatDuration(milliseconds), text);
  }
});

test("a written duration is read back", () => {
  fc.assert(
    fc.property(fc.integer({ min: -(2 ** 50), max: 2 ** 50 }), (nanoseconds) => {
      const text = formatDuration(nanoseconds / 1e6);
      assert.equal(Math.round(parseDuration(text) * 1e6), nanoseconds + 0, text);
    }),
  );
});

test("no text makes the reader hang or give something that is no number", () => {
  const pieces = fc.constantFrom("1", "0", ".", "-", "h", "m", "s", "ms", "ns", "\u00b5", " ", "e");
  fc.assert(
    fc.property(fc.array(pieces, { maxLength: 12 }), (parts) => {
      try {
        assert.ok(Number.isFinite(parseDuration(parts.join(""))));
      } catch (error) {
        assert.match(String(error), /^Error: time: /);
      }
    }),
  );
});
