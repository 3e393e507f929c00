import assert from "node:assert/strict";
import test from "node:test";
import { applyFieldMask, maskedMap } from "./field-mask.ts";

const refuse = (path: string): Error => new Error(`refused ${path}`);

test("entries are named by all that follows the first dot", () => {
  const target = { labels: { a: "1", "x.y/z": "1", gone: "1" } as Record<string, string> };
  const labels = maskedMap(target, "labels", { "x.y/z": "2", other: "2" }, "");
  applyFieldMask(["labels.x.y/z", "labels.gone", "labels.toString"], { labels }, refuse);
  assert.deepEqual(target.labels, { a: "1", "x.y/z": "2", gone: "", toString: "" });
});

test("a whole map is replaced by a copy", () => {
  const wanted = { b: "2" };
  const target = { labels: { a: "1" } as Record<string, string> };
  applyFieldMask(["labels", "labels.c"], { labels: maskedMap(target, "labels", wanted, "") }, refuse);
  assert.deepEqual(target.labels, { b: "2", c: "" });
  assert.deepEqual(wanted, { b: "2" });
});

test("paths that name nothing that may change are refused", () => {
  const image = { replace: () => undefined };
  for (const path of ["image.name", "other", "", "labels", "constructor"]) {
    assert.throws(() => applyFieldMask([path], { image, labels: { replaceEntry: () => undefined } }, refuse), {
      message: `refused ${path}`,
    });
  }
});
