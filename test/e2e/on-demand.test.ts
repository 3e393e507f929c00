import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { Introspection } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { type Daemon, startFlotilla } from "../kit/daemon.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { ClientStream } from "../kit/stream-client.ts";

let ours: Daemon;
let leaks: LeakSnapshot;
const namespace = uniqueNamespace();

before(async () => {
  leaks = await snapshotLeaks();
  ours = await startFlotilla();
});

after(async () => {
  await ours?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

async function transferPlugins(): Promise<{ uri: string; failed: boolean }[]> {
  const { plugins } = await createClient(Introspection, ours.transport).plugins({ filters: ["id==streaming"] });
  return plugins.map(({ type, id, initErr }) => ({ uri: `${type}.${id}`, failed: initErr !== undefined }));
}

async function openAndClose(id: string): Promise<void> {
  const stream = await ClientStream.open(ours.transport, id, { namespace });
  stream.cancel();
}

test("a process on demand is shown before it runs, started by its first call, and again by the first after its death", async () => {
  const promised = await transferPlugins();
  assert.deepEqual(promised, [{ uri: "io.containerd.grpc.v1.streaming", failed: false }]);
  assert.equal(ours.pidOf("transfer"), undefined);

  await openAndClose("first");
  const first = ours.pidOf("transfer");
  assert.ok(first !== undefined);
  assert.deepEqual(await transferPlugins(), promised);

  await ours.kill9("transfer");
  assert.equal((await ours.ctr("-n", namespace, "images", "ls")).exitCode, 0);
  assert.equal(ours.pidOf("transfer"), undefined);

  await openAndClose("second");
  assert.ok(ours.pidOf("transfer") !== undefined);
  assert.notEqual(ours.pidOf("transfer"), first);
});
