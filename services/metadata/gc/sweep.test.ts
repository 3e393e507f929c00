import assert from "node:assert/strict";
import test from "node:test";
import { digestOf } from "#containerd/digest.ts";
import { WriteBarrier } from "./barrier.ts";
import { findUnreferenced } from "./mark.ts";
import { removalsPerCommitMax, sweep } from "./sweep.ts";
import { TestStores, turns } from "./test-stores.ts";

const namespace = "n";

async function addBlobs(opened: TestStores, count: number, next: (index: number) => number): Promise<void> {
  const digests = Array.from({ length: count }, (_, index) => digestOf(`${index}`));
  const commits = digests.map((digest, index) => {
    const labels = { "containerd.io/gc.ref.content": digests[next(index)] ?? "" };
    return opened.stores.ingests.commit({ namespace, lease: "", ref: digest, digest, size: 1n, labels });
  });
  await Promise.all(commits);
}

/** Sweeps all and tells how many records went in each transaction. */
async function sweepAll(opened: TestStores): Promise<number[]> {
  const { stores } = opened;
  const { records } = stores;
  using barrier = new WriteBarrier(records.graph);
  const reader = records.openSnapshot();
  const unreferenced = await findUnreferenced(reader, opened.nowMs, async () => undefined);
  reader.close();
  const count = records.database.prepare<[], number>("SELECT count(*) FROM blobs").pluck();
  const removed: number[] = [];
  let before = count.get() ?? 0;
  const outcome = await sweep(unreferenced, { records, stores, barrier }, async () => {
    const after = count.get() ?? 0;
    removed.push(before - after);
    before = after;
    await turns(1);
  });
  assert.deepEqual([outcome.kept, outcome.removed], [0, removed.reduce((sum, each) => sum + each, 0)]);
  return removed;
}

test("a transaction removes a bounded number of records", async () => {
  using opened = new TestStores();
  await addBlobs(opened, 2 * removalsPerCommitMax + 1, (index) => index + 1);
  assert.deepEqual(await sweepAll(opened), [removalsPerCommitMax, removalsPerCommitMax, 1]);
});

test("records that refer to each other in a circle go together", async () => {
  using opened = new TestStores();
  const count = removalsPerCommitMax + 1;
  await addBlobs(opened, count, (index) => (index + 1) % count);
  assert.deepEqual(await sweepAll(opened), [count]);
});
