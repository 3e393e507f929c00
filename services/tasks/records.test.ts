import assert from "node:assert/strict";
import test from "node:test";
import { createRouterTransport } from "@connectrpc/connect";
import { ErrorKind, failure } from "#base/errors.ts";
import { Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { connectRecords } from "./records.ts";

test("that a container is there is asked once, and again after one was removed", async () => {
  const there = new Set(["a", "b"]);
  let asked = 0;
  let mark: bigint | undefined = 1n;
  const transport = createRouterTransport(({ service }) => {
    service(Containers, {
      get: ({ id }) => {
        asked += 1;
        if (!there.has(id)) {
          throw failure(ErrorKind.NotFound, `container "${id}"`);
        }
        return { container: { id } };
      },
    });
  });
  const records = connectRecords({ transport }, { read: () => mark });
  const costs = async (work: () => Promise<unknown>): Promise<number> => {
    const before = asked;
    await work();
    return asked - before;
  };
  assert.equal(await costs(() => records.getContainer("n", "a")), 1);
  assert.equal(await costs(() => records.getContainer("n", "a")), 1, "what stands in a record may have changed");
  assert.equal(await costs(() => records.requireContainer("n", "a")), 0);
  assert.equal(await costs(() => records.requireContainer("m", "a")), 1);
  assert.equal(await costs(() => records.requireContainer("n", "b")), 1);
  there.delete("a");
  mark = 2n;
  assert.equal(await costs(() => assert.rejects(records.requireContainer("n", "a"))), 1);
  assert.equal(await costs(() => records.requireContainer("n", "b")), 1);
  assert.equal(await costs(() => records.requireContainer("n", "b")), 0);
  mark = undefined;
  assert.equal(await costs(() => records.requireContainer("n", "b")), 1, "where nobody tells of removals");
  assert.equal(await costs(() => records.requireContainer("n", "b")), 1);
});
