import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { joinPath, splitPath } from "#linux/byte-path.ts";
import { asByteString } from "#linux/bytes.ts";
import { cleanLayerPath } from "./layer-path.ts";
import { findWhiteout, whiteoutOf } from "./whiteout.ts";

const clean = (path: string): string => cleanLayerPath(asByteString(path));

test("paths are cleaned as if the root of the layer were the root of everything", () => {
  for (const [path, cleaned] of [
    ["", ""],
    [".", ""],
    ["/", ""],
    ["..", ""],
    ["../..", ""],
    ["a", "a"],
    ["./a/", "a"],
    ["/a//b/./c/", "a/b/c"],
    ["../../etc/passwd", "etc/passwd"],
    ["a/../../b", "b"],
    ["a/b/../..", ""],
    ["..a/.b./c..", "..a/.b./c.."],
    ["...", "..."],
  ] as const) {
    assert.equal(clean(path), cleaned, path);
  }
});

test("a cleaned path has only real names in it, and stays as it is", () => {
  const part = fc.constantFrom("", ".", "..", "a", "b.", "..c", ".d");
  fc.assert(
    fc.property(fc.array(part, { maxLength: 12 }), (parts) => {
      const cleaned = clean(parts.join("/"));
      assert.ok(cleaned === "" || cleaned.split("/").every((name) => !["", ".", ".."].includes(name)));
      assert.equal(clean(cleaned), cleaned);
      const { parent, base } = splitPath(asByteString(cleaned));
      assert.equal(joinPath(parent, base), cleaned);
    }),
  );
});

test("whiteouts are told by their names", () => {
  const find = (name: string): unknown => findWhiteout(asByteString(name));
  assert.equal(find("file"), undefined);
  assert.equal(find(".whfile"), undefined);
  assert.deepEqual(find(".wh.file"), { kind: "remove", name: "file" });
  assert.deepEqual(find(".wh..hidden"), { kind: "remove", name: ".hidden" });
  assert.deepEqual(find(".wh..wh..opq"), { kind: "opaque" });
  assert.deepEqual(find(".wh..wh.plnk"), { kind: "ignore" });
  assert.deepEqual(find(".wh..wh.aufs"), { kind: "ignore" });
});

test("a whiteout of the directory itself or of what is above it is refused", () => {
  for (const name of [".wh.", ".wh..", ".wh..."]) {
    assert.throws(() => findWhiteout(asByteString(name)), {
      message: `invalid whiteout name: ${name}: invalid archive`,
    });
  }
});

test("the whiteout of a name stands for that name", () => {
  fc.assert(
    fc.property(fc.string({ minLength: 1 }), (text) => {
      fc.pre(!text.startsWith(".wh.") && text !== "." && text !== "..");
      const name = asByteString(text);
      assert.deepEqual(findWhiteout(whiteoutOf(name)), { kind: "remove", name });
    }),
  );
});
