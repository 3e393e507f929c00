import assert from "node:assert/strict";
import test from "node:test";
import type { Digest } from "#containerd/digest.ts";
import { CopyBudget } from "./copy-budget.ts";

const digest = (name: string): Digest => `sha256:${name.repeat(64)}` as Digest;
const [a, b, c] = [digest("a"), digest("b"), digest("c")] as const;

function open(bytesMax: number): { readonly budget: CopyBudget; readonly pass: (ms: number) => void } {
  let nowMs = 0;
  const budget = new CopyBudget({ bytesMax: () => bytesMax, restMs: 100, now: () => nowMs });
  return { budget, pass: (ms) => void (nowMs += ms) };
}

test("what has not been used for longest goes first, and no more than has to", () => {
  const { budget, pass } = open(10);
  budget.found(a, 4);
  budget.found(b, 4);
  budget.found(c, 4);
  assert.deepEqual(budget.surplus(), [a]);
  budget.used(a, 4);
  assert.deepEqual(budget.surplus(), [b]);
  budget.forget(b);
  assert.deepEqual(budget.surplus(), []);
  pass(100);
  assert.deepEqual(budget.surplus(0), [c, a]);
});

test("a copy stays for a while after its use, whatever the bound", () => {
  const { budget, pass } = open(1);
  budget.used(a, 4);
  pass(99);
  assert.deepEqual(budget.surplus(), []);
  pass(1);
  assert.deepEqual(budget.surplus(), [a]);
});

test("without a bound all stay, and a copy of another size counts once", () => {
  const { budget } = open(0);
  budget.found(a, 1e12);
  budget.found(a, 5);
  assert.deepEqual(budget.surplus(), []);
  assert.deepEqual(budget.surplus(4), [a]);
  assert.deepEqual(budget.surplus(5), []);
});
