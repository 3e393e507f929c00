import assert from "node:assert/strict";
import test from "node:test";
import { releaseFreeMemory } from "./memory.ts";

test("memory can be released any time", () => {
  const kept = Buffer.alloc(1000, 7);
  releaseFreeMemory();
  assert.ok(kept.every((value) => value === 7));
});
