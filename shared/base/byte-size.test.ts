import assert from "node:assert/strict";
import test from "node:test";
import { parseByteSize } from "./byte-size.ts";

test("sizes are read with and without units", () => {
  const cases: [string, number][] = [
    ["0", 0],
    ["32", 32],
    ["32b", 32],
    ["32 B", 32],
    ["32k", 32 * 1024],
    ["32KiB", 32 * 1024],
    ["1.5 MB", 1.5 * 1024 ** 2],
    [".5g", 0.5 * 1024 ** 3],
    ["2TiB", 2 * 1024 ** 4],
  ];
  for (const [text, sizeBytes] of cases) {
    assert.equal(parseByteSize(text), sizeBytes, text);
  }
});

test("what is no size is refused in Go's words", () => {
  const cases: [string, string][] = [
    ["", "invalid size: ''"],
    ["hello", "invalid size: 'hello'"],
    ["-32", "invalid size: '-32'"],
    ["32mm", "invalid suffix: 'mm'"],
    ["32 kbi", "invalid suffix: 'kbi'"],
    ["32 e", "invalid suffix: 'e'"],
    ["1.2.3k", 'strconv.ParseFloat: parsing "1.2.3": invalid syntax'],
  ];
  for (const [text, message] of cases) {
    assert.throws(() => parseByteSize(text), { message });
  }
});
