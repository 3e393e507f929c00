import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { readPseudoFile } from "./pseudo-file.ts";

test("a file is read whole, whatever its length, and one that is not there is undefined", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "flotilla-pseudo-"));
  t.after(() => rm(directory, { recursive: true }));
  const path = join(directory, "file");
  for (const length of [0, 1, 16 * 1024 - 1, 16 * 1024, 100_000]) {
    const text = "x".repeat(length);
    await writeFile(path, text);
    assert.equal(readPseudoFile(path), text, `${length} bytes`);
  }
  assert.equal(readPseudoFile(join(directory, "nothing")), undefined);
  assert.match(readPseudoFile("/proc/self/status") ?? "", /^Name:/);
});

test("files whose size is not told take no memory of their own", () => {
  const before = process.memoryUsage().arrayBuffers;
  for (let count = 0; count < 100; count += 1) {
    readPseudoFile("/proc/self/status");
  }
  // Node.js takes 64 KiB for each.
  assert.ok(process.memoryUsage().arrayBuffers - before < 1024 * 1024);
});
