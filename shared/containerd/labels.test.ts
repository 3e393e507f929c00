import assert from "node:assert/strict";
import test from "node:test";
import { validateLabels, withoutEmptyLabels } from "./labels.ts";

test("key and value together may have 4096 bytes", () => {
  validateLabels({ key: "v".repeat(4093) });
  assert.throws(() => validateLabels({ key: "v".repeat(4094) }), {
    kind: "invalid argument",
    message:
      "label key and value length (4097 bytes) greater than maximum size (4096 bytes), key: key: invalid argument",
  });
});

test("sizes are counted in bytes and long keys are shortened", () => {
  assert.throws(() => validateLabels({ ["k".repeat(100)]: "ü".repeat(2000) }, "image.Labels"), {
    message: `image.Labels: label key and value length (4100 bytes) greater than maximum size (4096 bytes), key: ${"k".repeat(64)}: invalid argument`,
  });
});

test("labels with an empty value do not exist", () => {
  assert.deepEqual(withoutEmptyLabels({ a: "", b: "1" }), { b: "1" });
});
