import assert from "node:assert/strict";
import test from "node:test";
import { handledMountTypes, mountTransformations, needsMountManager } from "#containerd/managed-mounts.ts";
import { planActivation } from "./plan.ts";

const known = { transformers: new Set(mountTransformations), handlers: new Set(handledMountTypes) };
const plan = (types: readonly string[], { temporary = false, allowed = [] as string[] } = {}): number | undefined =>
  planActivation(
    types.map((type) => ({ type, source: "s", options: [] })),
    known,
    { temporary, allowedTypes: allowed },
  )?.firstSystem;

test("mounts up to the last that needs the manager are its own, and one that is only transformed is the caller's", () => {
  const cases: [string[], number | undefined][] = [
    [[], undefined],
    [["bind"], undefined],
    [["bind", "unknown/overlay"], undefined],
    [["erofs"], 1],
    [["bind", "erofs", "bind"], 2],
    [["bind", "xfs", "format/overlay"], 2],
    [["mkfs/ext4"], 0],
    [["mkfs/ext4", "format/mkdir/overlay"], 1],
    [["mkfs/loop"], 1],
    [["format/x", "erofs", "bind"], 2],
  ];
  for (const [types, firstSystem] of cases) {
    assert.equal(plan(types), firstSystem, types.join(" "));
    assert.equal(firstSystem === undefined || needsMountManager(types), true, "who asks first never leaves one out");
  }
});

test("a temporary activation carries out all", () => {
  assert.equal(plan(["bind", "overlay"], { temporary: true }), 2);
  assert.equal(plan([], { temporary: true }), undefined);
});

test("what the caller can do is left to it, unless something after it needs it", () => {
  assert.equal(plan(["erofs", "format/overlay"], { allowed: ["erofs", "format/*"] }), undefined);
  assert.equal(plan(["erofs", "format/overlay"], { allowed: ["format/*"] }), 1);
  assert.equal(plan(["erofs", "mkfs/ext4", "format/overlay"], { allowed: ["erofs", "mkfs/*"] }), 2);
  assert.equal(plan(["mkfs/ext4"], { allowed: ["mkfs/ext4"] }), undefined);
});

test("the prefixes are told in their order, with the type that is left", () => {
  const mounts = [{ type: "format/mkdir/overlay", source: "s", options: [] }];
  const planned = planActivation(mounts, known, { temporary: false, allowedTypes: [] });
  assert.deepEqual(planned?.steps, [{ transformers: ["format", "mkdir"], type: "overlay" }]);
});

test("a list has an end", () => {
  assert.throws(() => plan([...Array.from({ length: 255 }, () => "bind"), "erofs"]), /too many mounts \(256\)/);
});
