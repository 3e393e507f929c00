import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import test from "node:test";

const processes = globSync("services/*/main.ts")
  .map((path) => dirname(path))
  .sort();

test("every process tells what it owns, what it never does, and what a crash leaves", () => {
  assert.ok(processes.length > 5);
  const silent = processes.flatMap((folder) => {
    const text = existsSync(`${folder}/README.md`) ? readFileSync(`${folder}/README.md`, "utf8") : "";
    const told = {
      owns: /^(?:\*\*Owns\*\* |## Owns$)/m,
      never: /^(?:\*\*Never\*\* |## Never$)/m,
      crash: /^(?:\*\*A crash\*\* |## (?:What a crash leaves|Crash story|When it is killed)$)/m,
    };
    return Object.entries(told)
      .filter(([, pattern]) => !pattern.test(text))
      .map(([what]) => `${folder}/README.md: ${what}`);
  });
  assert.deepEqual(silent, []);
});

test("files that a README names are there", () => {
  const missing = globSync(["services/**/README.md", "shared/**/README.md", "test/**/README.md", "deploy/README.md"])
    .filter((path) => !path.includes("node_modules"))
    .flatMap((readme) =>
      Array.from(readFileSync(readme, "utf8").matchAll(/`((?:[\w.-]+\/)*[\w.-]+\.ts)`/g), ([, name = ""]) => name)
        .filter((name) => globSync([name, `${dirname(readme)}/**/${name}`]).length === 0)
        .map((name) => `${readme}: ${name}`),
    );
  assert.deepEqual(missing, []);
});
