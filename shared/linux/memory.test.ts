import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { releaseFreeMemory, unmapProgram } from "./memory.ts";

test("memory can be released any time", () => {
  const kept = Buffer.alloc(1000, 7);
  releaseFreeMemory();
  assert.ok(kept.every((value) => value === 7));
});

test("a program goes on when what it has mapped of itself is let go of", () => {
  const before = mappedProgramKib();
  unmapProgram();
  const after = mappedProgramKib();
  assert.ok(after < before * 0.75, `${before} KiB before, ${after} KiB after`);
  assert.equal(JSON.stringify(JSON.parse('{"a":[1,"b"]}')), '{"a":[1,"b"]}');
  assert.equal("x".repeat(1000).replace(/x+/u, "y").normalize("NFC"), "y");
});

/** What of the program file itself is mapped to run. */
function mappedProgramKib(): number {
  const [, resident] =
    new RegExp(`r-xp .* ${process.execPath}\\n(?:.*\\n)*?Rss: +(\\d+) kB`).exec(
      readFileSync("/proc/self/smaps", "latin1"),
    ) ?? [];
  return Number(resident);
}
