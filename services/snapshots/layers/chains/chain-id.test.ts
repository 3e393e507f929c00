import assert from "node:assert/strict";
import test from "node:test";
import { digestOf } from "#containerd/digest.ts";
import { chainIdsOf } from "./chain-id.ts";

test("a chain ID is the layer's own digest at first, and a digest of digests above", () => {
  const [first, second, third] = ["a", "b", "c"].map((text) => digestOf(text));
  assert.ok(first !== undefined && second !== undefined && third !== undefined);
  const both = digestOf(`${first} ${second}`);
  assert.deepEqual(chainIdsOf([first, second, third]), [first, both, digestOf(`${both} ${third}`)]);
  assert.deepEqual(chainIdsOf([]), []);
});
