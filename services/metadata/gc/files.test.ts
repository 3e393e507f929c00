import assert from "node:assert/strict";
import test from "node:test";
import { digestOf } from "#containerd/digest.ts";
import { removeReleasedBlobs } from "./files.ts";
import { TestStores, turns } from "./test-stores.ts";

/** Condemns so many digests. */
async function condemn(opened: TestStores, count: number): Promise<string[]> {
  const { records, releases } = opened.stores;
  const digests = Array.from({ length: count }, (_, index) => digestOf(`${index}`));
  await records.maintain(() => {
    for (const digest of digests) {
      releases.condemnUnlessNamed(digest, 1n);
    }
  });
  return digests;
}

/** Removes files of blobs that are told by their digests. @param remove - Called with each batch. */
function removeAll(opened: TestStores, remove: (digests: readonly string[]) => Promise<void>): Promise<void> {
  const { records, releases } = opened.stores;
  return removeReleasedBlobs(records, releases, {
    removeBlobs: async (digests) => {
      await records.maintain(() => digests.filter((digest) => releases.beginDeleting(digest)));
      await remove(digests);
      return digests;
    },
    removeSnapshots: async (_snapshotter, ids) => ids,
    removeMounts: async (ids) => ids,
  });
}

test("files go by bounded calls, several at once, each file by one", async () => {
  using opened = new TestStores();
  const digests = await condemn(opened, 3_100);
  const removed: string[] = [];
  const sizes: number[] = [];
  let underWay = 0;
  let mostUnderWay = 0;
  await removeAll(opened, async (batch) => {
    underWay += 1;
    mostUnderWay = Math.max(mostUnderWay, underWay);
    sizes.push(batch.length);
    removed.push(...batch);
    await turns(3);
    underWay -= 1;
  });
  assert.deepEqual(removed.toSorted(), digests.toSorted());
  assert.deepEqual(sizes, [500, 500, 500, 500, 500, 500, 100]);
  assert.equal(mostUnderWay, 4);
  assert.deepEqual(opened.stores.releases.listBlobs(0, 1), []);
});

test("when a call fails the others end first, and what was not removed stays released", async () => {
  using opened = new TestStores();
  const digests = await condemn(opened, 5_000);
  const removed: string[] = [];
  let calls = 0;
  const removing = removeAll(opened, async (batch) => {
    calls += 1;
    if (calls === 2) {
      throw new Error("the disk is not there");
    }
    await turns(3);
    removed.push(...batch);
  });
  await assert.rejects(removing, { message: "the disk is not there" });
  assert.equal(removed.length, 1_500, "the three that were under way");
  const left = opened.stores.releases.listBlobs(0, digests.length).map(({ digest }) => digest);
  assert.deepEqual(left.toSorted(), digests.filter((digest) => !removed.includes(digest)).toSorted());
});
