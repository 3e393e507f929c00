import assert from "node:assert/strict";
import test from "node:test";
import { createRouterTransport } from "@connectrpc/connect";
import { SnapshotIndex, SnapshotKind } from "#gen/flotilla/index/v1/index_pb.ts";
import { connectSnapshotIndex } from "./index-client.ts";

test("where a new snapshot lies is not asked for until some snapshot has changed", async () => {
  let asked = 0;
  let mark: bigint | undefined = 1n;
  const location = { id: 7n, parentIds: [3n], kind: SnapshotKind.ACTIVE, labels: { a: "b" } };
  const transport = createRouterTransport(({ service }) => {
    service(SnapshotIndex, {
      prepareSnapshot: () => ({ location }),
      resolveSnapshot: () => {
        asked += 1;
        return { location };
      },
    });
  });
  const index = connectSnapshotIndex({ transport }, { read: () => mark });
  const name = { namespace: "n", snapshotter: "s", key: "k" };
  const wanted = { ...name, lease: "", parent: "p", labels: {}, kind: "active" } as const;
  const costs = async (of = name): Promise<number> => {
    const before = asked;
    const { location: found } = await index.resolve(of);
    assert.deepEqual([found.id, found.parentIds, found.kind], [7n, [3n], "active"]);
    return asked - before;
  };
  await index.prepare(wanted);
  assert.equal(await costs(), 0);
  assert.equal(await costs(), 0);
  assert.equal(await costs({ ...name, namespace: "m" }), 1);
  mark = 2n;
  assert.equal(await costs(), 1, "it may have gone, or been committed, or have other labels");
  assert.equal(await costs(), 1, "what was asked for is not remembered");
  await index.prepare({ ...wanted, call: { id: "c", repeatedAfterMs: 5 } });
  assert.equal(await costs(), 1, "what a call has made the first time may have gone since");
  mark = undefined;
  await index.prepare(wanted);
  assert.equal(await costs(), 1, "where nobody tells of changes");
});
