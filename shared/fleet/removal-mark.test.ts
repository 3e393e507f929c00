import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import test from "node:test";
import { RemovalMarkReader, RemovalMarkWriter } from "./removal-mark.ts";

test("readers see each change, also of a writer that was started again or has lost its file", (context) => {
  const state = mkdtempSync(`${tmpdir()}/flotilla-mark-`);
  context.after(() => rmSync(state, { recursive: true }));
  mkdirSync(`${state}/metadata`);
  using reader = new RemovalMarkReader(state, "blob");
  using ofContainers = new RemovalMarkReader(state, "container");
  assert.equal(reader.read(), undefined);
  const seen = new Set<bigint | undefined>();
  const see = (): void => {
    const number = reader.read();
    assert.equal(reader.read(), number);
    assert.ok(number !== undefined && !seen.has(number));
    seen.add(number);
  };
  {
    using writer = new RemovalMarkWriter(state, "blob");
    see();
    for (let round = 0; round < 300; round += 1) {
      writer.advance();
      see();
    }
  }
  assert.equal(ofContainers.read(), undefined);
  using again = new RemovalMarkWriter(state, "blob");
  see();
  rmSync(`${state}/metadata/blob-removals`);
  assert.equal(reader.read(), undefined);
  using third = new RemovalMarkWriter(state, "blob");
  see();
  again.advance();
  third.advance();
  see();
});
