import assert from "node:assert/strict";
import test from "node:test";
import { MemoryKeeper } from "./memory-keeper.ts";

const mebibyte = 1024 * 1024;

/** A process whose time and memory the test moves. A collection leaves 20 MiB. */
class FakeProcess {
  cpu = 0;
  resident = 40 * mebibyte;
  collections = 0;
  readonly keeper: MemoryKeeper;

  constructor() {
    this.keeper = new MemoryKeeper({
      cpuMs: () => this.cpu,
      residentBytes: () => this.resident,
      collect: () => {
        this.collections += 1;
        this.cpu += 40;
        this.resident = 20 * mebibyte;
      },
    });
  }

  /** What happens between two looks. */
  pass(workMs: number, grownBytes: number): number {
    this.cpu += workMs;
    this.resident += grownBytes;
    this.keeper.check();
    return this.collections;
  }
}

test("memory is given back once after the start, when the process is idle", () => {
  const fake = new FakeProcess();
  assert.equal(fake.pass(500, 0), 0);
  assert.equal(fake.pass(5, 0), 1);
  assert.equal(fake.pass(5, 0), 1);
  assert.equal(fake.pass(5, 0), 1);
});

test("amid work nothing is collected, and after it once, when the pause is long enough", () => {
  const fake = new FakeProcess();
  fake.pass(5, 0);
  for (let second = 0; second < 100; second += 1) {
    assert.equal(fake.pass(1000, mebibyte), 1);
  }
  assert.deepEqual([fake.pass(5, 0), fake.pass(5, 0), fake.pass(5, 0)], [1, 1, 1]);
  assert.equal(fake.pass(1000, 0), 1, "somebody came back, and found it warm");
  assert.deepEqual([fake.pass(5, 0), fake.pass(5, 0), fake.pass(5, 0)], [1, 1, 1]);
  assert.deepEqual([fake.pass(5, 0), fake.pass(5, 0)], [2, 2]);
});

test("small growth while idle adds up before it is collected", () => {
  const fake = new FakeProcess();
  for (let looks = 0; looks < 10; looks += 1) {
    fake.pass(5, 0);
  }
  assert.equal(fake.pass(5, mebibyte), 1);
  assert.equal(fake.pass(5, mebibyte), 2);
});
