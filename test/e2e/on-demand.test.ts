import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import type { FleetConfig } from "#config/config.ts";
import { privateSocketOf } from "#fleet/process-name.ts";
import { wakePeer } from "#fleet/wake.ts";
import { Introspection } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "#gen/grpc/health/v1/health_pb.ts";
import { connectRpc } from "#wire/client.ts";
import { type Daemon, startFlotilla } from "../kit/daemon.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { until } from "../kit/processes.ts";
import { ClientStream } from "../kit/stream-client.ts";

let ours: Daemon;
let leaks: LeakSnapshot;
const namespace = uniqueNamespace();
const idleMs = 2_000;

before(async () => {
  leaks = await snapshotLeaks();
  ours = await startFlotilla({
    config: `[plugins."io.flotilla.fleet.v1.supervisor"]\n  on_demand_idle = "${idleMs}ms"`,
  });
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
  // A call that it takes as it dies ends with it.
  await until(
    () => deathsInLog() === 1,
    () => "the gateway has not seen the death",
    20_000,
  );
  assert.equal((await ours.ctr("-n", namespace, "images", "ls")).exitCode, 0);
  assert.equal(ours.pidOf("transfer"), undefined);

  await openAndClose("second");
  assert.ok(ours.pidOf("transfer") !== undefined);
  assert.notEqual(ours.pidOf("transfer"), first);
});

test("it ends when nobody has called it for some time, but not under an open call, and comes back", async () => {
  const stream = await ClientStream.open(ours.transport, "held", { namespace });
  const pid = ours.pidOf("transfer");
  assert.ok(pid !== undefined);
  await delay(2 * idleMs);
  assert.equal(ours.pidOf("transfer"), pid);
  stream.cancel();
  const deaths = deathsInLog();
  await until(
    () => ours.pidOf("transfer") === undefined,
    () => "transfer goes on without a call",
    20_000,
  );
  assert.deepEqual(await transferPlugins(), [{ uri: "io.containerd.grpc.v1.streaming", failed: false }]);
  await openAndClose("after");
  assert.notEqual(ours.pidOf("transfer"), pid);
  assert.equal(deathsInLog(), deaths);
});

test("a peer that cannot reach a process on demand has it started", async () => {
  await until(
    () => ours.pidOf("transfer") === undefined,
    () => "transfer goes on without a call",
    20_000,
  );
  const state = { state: ours.state } as FleetConfig;
  const path = privateSocketOf(ours.state, "transfer");
  const peer = connectRpc(path, { onAbsent: () => wakePeer(state, "transfer") });
  try {
    const { status } = await createClient(Health, peer.transport).check({});
    assert.equal(status, ServingStatus.SERVING);
    assert.ok(ours.pidOf("transfer") !== undefined);
  } finally {
    peer.close();
  }
});

function deathsInLog(): number {
  return ours.log().split("member died").length - 1;
}
