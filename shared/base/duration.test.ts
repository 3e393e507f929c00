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

test("a duration is the sum of its parts", () => {
  const amount = fc.integer({ min: 0, max: 10_000 });
  const unit = fc.constantFrom(["ms", 1], ["s", 1_000], ["m", 60_000], ["h", 3_600_000] as const);
  fc.assert(
    fc.property(fc.array(fc.tuple(amount, unit), { minLength: 1, maxLength: 5 }), (parts) => {
      const text = parts.map(([count, [name]]) => `${count}${name}`).join("");
      const expected = parts.reduce((sum, [count, [, factorMs]]) => sum + count * factorMs, 0);
      assert.equal(parseDuration(text), expected, text);
      assert.equal(parseDuration(`-${text}`), 0 - expected);
    }),
  );
});

test("a fraction is exact to the nanosecond", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 1_000_000 }), fc.integer({ min: 0, max: 999_999_999 }), (seconds, rest) => {
      const text = `${seconds}.${String(rest).padStart(9, "0")}s`;
      assert.equal(Math.round(parseDuration(text) * 1e6), seconds * 1e9 + rest, text);
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

test("durations are written as Go writes them", () => {
  const cases = {
    "0": "0s",
    "1": "1ms",
    "1.5": "1.5ms",
    "0.25": "250µs",
    "1000": "1s",
    "90000": "1m30s",
    "3600000": "1h0m0s",
    "-2500": "-2.5s",
    "0.000001": "1ns",
    "0.0011": "1.1µs",
    "2.2": "2.2ms",
    "60000": "1m0s",
    "90500": "1m30.5s",
    "3300.000001": "3.300000001s",
    "245001": "4m5.001s",
    "18367001": "5h6m7.001s",
  };
  for (const [durationMs, text] of Object.entries(cases)) {
    assert.equal(formatDuration(Number(durationMs)), text);
  }
});
