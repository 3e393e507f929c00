import assert from "node:assert/strict";
import test from "node:test";
import { ErrorKind } from "#base/errors.ts";
import { openWritersMax } from "./limits.ts";
import { OpenIngests } from "./open-ingests.ts";

const name = { namespace: "n", ref: "r" };

test("a second writer is told since when the first has the ingest", () => {
  let now = 1_000_000_000n;
  const ingests = new OpenIngests(() => now);
  const lock = ingests.lock("n/1/r");
  now += 1_500_000_000n;
  assert.throws(() => ingests.lock("n/1/r"), {
    kind: ErrorKind.Unavailable,
    message: "ref n/1/r locked for 1.5s (since 1970-01-01 00:00:01 +0000 UTC): unavailable",
  });
  lock[Symbol.dispose]();
  lock[Symbol.dispose]();
  using again = ingests.lock("n/1/r");
  assert.equal(again.isAbandoned, false);
});

test("giving a lock up twice does not take it from the next holder", () => {
  const ingests = new OpenIngests(() => 0n);
  const first = ingests.lock("x");
  first[Symbol.dispose]();
  const second = ingests.lock("x");
  first[Symbol.dispose]();
  assert.throws(() => ingests.lock("x"), { kind: ErrorKind.Unavailable });
  second[Symbol.dispose]();
});

test("an opening that an end of the ingest overtakes is stale, a later one is not", () => {
  const ingests = new OpenIngests(() => 0n);
  using early = ingests.beginOpening(name);
  using other = ingests.beginOpening({ namespace: "m", ref: "r" });
  ingests.markEnded(name);
  using late = ingests.beginOpening(name);
  assert.deepEqual([early.isStale, other.isStale, late.isStale], [true, false, false]);
});

test("a locked ingest is left to its writer", () => {
  const ingests = new OpenIngests(() => 0n);
  const writer = ingests.lock("x");
  assert.equal(ingests.lockOrAbandon("x"), undefined);
  assert.equal(writer.isAbandoned, true);
  writer[Symbol.dispose]();
  const remover = ingests.lockOrAbandon("x");
  assert.throws(() => ingests.lock("x"), { kind: ErrorKind.Unavailable });
  remover?.[Symbol.dispose]();
});

test("the number of open ingests has a limit, which openings count for", () => {
  const ingests = new OpenIngests(() => 0n);
  const held = new DisposableStack();
  for (let count = 0; count < openWritersMax - 1; count += 1) {
    held.use(ingests.lock(`n/${count}/r`));
  }
  held.use(ingests.beginOpening(name));
  assert.throws(() => ingests.beginOpening(name), { kind: ErrorKind.ResourceExhausted });
  held.dispose();
  ingests.beginOpening(name)[Symbol.dispose]();
});
