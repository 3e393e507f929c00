import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";
import { showSourcePlaces } from "./source-places.ts";

test("a stack trace of a bundle names places in sources, those of its causes too", async () => {
  const directory = await mkdtemp(join(tmpdir(), "flotilla-places-"));
  try {
    const source = join(directory, "thrower.ts");
    await writeFile(
      source,
      `type Unused = string;\n\nexport function thrower(): never {\n  throw new Error("outer", { cause: new Error("inner") });\n}\n`,
    );
    const bundle = join(directory, "bundle.js");
    await build({ entryPoints: [source], outfile: bundle, bundle: true, format: "esm", sourcemap: "linked" });
    const { thrower } = (await import(pathToFileURL(bundle).href)) as { thrower: () => never };
    assert.throws(thrower, (error: Error) => {
      showSourcePlaces(error);
      assert.match(error.stack ?? "", /^Error: outer\n {4}at thrower \(\S+\/thrower\.ts:4:9\)\n/);
      assert.match((error.cause as Error).stack ?? "", /^Error: inner\n {4}at thrower \(\S+\/thrower\.ts:4:37\)\n/);
      return true;
    });
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("what is no bundle keeps its places", () => {
  const error = new Error("as it is");
  const stack = "Error: as it is\n    at run (file:///nowhere/at-all.js:1:2)\n    at node:internal/timers:3:4";
  error.stack = stack;
  showSourcePlaces(error);
  assert.equal(error.stack, stack);
  assert.doesNotThrow(() => showSourcePlaces("no error"));
});
