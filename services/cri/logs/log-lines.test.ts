import assert from "node:assert/strict";
import test from "node:test";
import { array, assert as check, integer, property, stringMatching } from "fast-check";
import { LogLines } from "./log-lines.ts";

const time = "2026-08-12T10:00:00.25Z";

function log(chunks: readonly string[], lineBytesMax: number): string[] {
  const lines = new LogLines("stdout", lineBytesMax);
  const entries = [...chunks.flatMap((chunk) => lines.take(Buffer.from(chunk), time)), ...lines.end(time)];
  const text = Buffer.concat(entries).toString();
  assert.ok(text === "" || text.endsWith("\n"));
  return text.split("\n").slice(0, -1);
}

test("a line is an entry with the time, the stream and the tag F", () => {
  assert.deepEqual(log(["hello\nwor", "ld\n"], 100), [`${time} stdout F hello`, `${time} stdout F world`]);
});

test("an empty line is an entry, and an empty output is none", () => {
  assert.deepEqual(log(["\n\n"], 100), [`${time} stdout F `, `${time} stdout F `]);
  assert.deepEqual(log([], 100), []);
});

test("a longer line becomes pieces, of which the last is whole", () => {
  assert.deepEqual(log(["0123456789ab\n"], 5), [
    `${time} stdout P 01234`,
    `${time} stdout P 56789`,
    `${time} stdout F ab`,
  ]);
  assert.deepEqual(log(["01234\n"], 5), [`${time} stdout F 01234`]);
});

test("output that ends within a line ends with a piece", () => {
  assert.deepEqual(log(["a\nb"], 5), [`${time} stdout F a`, `${time} stdout P b`]);
});

test("a carriage return before the end of a line belongs to the end, wherever the output was cut", () => {
  assert.deepEqual(log(["a\r\n"], 5), [`${time} stdout F a`]);
  assert.deepEqual(log(["01234\r", "\n"], 5), [`${time} stdout F 01234`]);
  assert.deepEqual(log(["a\rb\n"], 5), [`${time} stdout F a\rb`]);
  assert.deepEqual(log(["\r\n"], 5), [`${time} stdout F `]);
});

test("however output is cut, the log is the same", () => {
  check(
    property(
      array(stringMatching(/^[ab\r\n]{0,12}$/), { maxLength: 12 }),
      integer({ min: 1, max: 6 }),
      (chunks, lineBytesMax) => {
        assert.deepEqual(log(chunks, lineBytesMax), log([chunks.join("")], lineBytesMax));
      },
    ),
  );
});

test("what was put out can be put together from the log", () => {
  check(
    property(stringMatching(/^[ab\n]{0,60}$/), integer({ min: 1, max: 6 }), (output, lineBytesMax) => {
      const text = log([output], lineBytesMax)
        .map((entry) => {
          const [, , tag, line = ""] = entry.split(" ");
          assert.ok(Buffer.byteLength(line) <= lineBytesMax);
          return tag === "F" ? `${line}\n` : line;
        })
        .join("");
      assert.equal(text, output);
    }),
  );
});
