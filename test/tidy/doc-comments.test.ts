import assert from "node:assert/strict";
import test from "node:test";
import { readSources } from "./sources.ts";

const exported = /^export (?:async )?(?:function\*?|class|const|abstract class) (\w+)/;

test("every exported function, class and constant of shared and services has a doc comment", () => {
  const bare: string[] = [];
  for (const { path, text } of readSources()) {
    if (path.startsWith("test/") || path.endsWith(".test.ts")) {
      continue;
    }
    const lines = text.split("\n");
    lines.forEach((line, index) => {
      const name = exported.exec(line)?.[1];
      if (name !== undefined && !/\*\/\s*$/.test(lines[index - 1] ?? "")) {
        bare.push(`${path}:${index + 1} ${name}`);
      }
    });
  }
  assert.deepEqual(bare, []);
});
