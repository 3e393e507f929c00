import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { Content } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Images } from "#gen/containerd/services/images/v1/images_pb.ts";
import { Leases } from "#gen/containerd/services/leases/v1/leases_pb.ts";
import { Tasks } from "#gen/containerd/services/tasks/v1/tasks_pb.ts";
import { connectRpc } from "#wire/client.ts";
import { clientHeaders } from "#wire/headers.ts";
import { type Daemon, startFlotilla } from "../kit/daemon.ts";
import { busyboxImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { sendSignal, until } from "../kit/processes.ts";

let daemon: Daemon;
let leaks: LeakSnapshot;
const namespace = uniqueNamespace();
const headers = clientHeaders(namespace);
const image = "docker.io/library/busybox:test";
/** Clients that call without a pause. */
const clientCount = 4;
const processes = ["events", "metadata", "content", "snapshots", "tasks"] as const;

before(async () => {
  leaks = await snapshotLeaks();
  daemon = await startFlotilla();
  const { tar } = await busyboxImage();
  assert.equal((await daemon.ctr("-n", namespace, "images", "import", tar)).exitCode, 0);
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

/** Calls that read and calls that change, to every process but snapshots, until told to stop. @returns how many it made. */
async function work(client: number, stop: AbortSignal): Promise<number> {
  const connection = connectRpc(daemon.address);
  try {
    const { transport } = connection;
    let calls = 0;
    for (; !stop.aborted; calls += 5) {
      const id = `lease-${client}-${calls}`;
      await createClient(Leases, transport).create({ id }, { headers });
      const { image: found } = await createClient(Images, transport).get({ name: image }, { headers });
      const read = createClient(Content, transport).read({ digest: found?.target?.digest ?? "" }, { headers });
      let sizeBytes = 0;
      for await (const { data } of read) {
        sizeBytes += data.length;
      }
      assert.equal(sizeBytes, Number(found?.target?.size ?? 0));
      await createClient(Tasks, transport).list({}, { headers });
      await createClient(Leases, transport).delete({ id }, { headers });
    }
    return calls;
  } finally {
    connection.close();
  }
}

/** Runs containers one after the other until told to stop. @returns how many. */
async function runContainers(stop: AbortSignal): Promise<number> {
  let count = 0;
  for (; !stop.aborted; count += 1) {
    const command = ["run", "--rm", image, `rolling-${count}`, "echo", "hello"];
    const { stdout, stderr, exitCode } = await daemon.ctr("-n", namespace, ...command);
    assert.deepEqual([stdout, exitCode], ["hello\n", 0], stderr);
  }
  return count;
}

test("every process is stopped and started again under load, and no call fails", async () => {
  const stop = new AbortController();
  const workers = Array.from({ length: clientCount }, (_, client) => work(client, stop.signal));
  const all = Promise.all([...workers, runContainers(stop.signal)]);
  // Awaited below; whoever fails ends the others.
  all.catch(() => stop.abort());
  for (const name of processes) {
    await delay(500);
    const before = daemon.pidOf(name);
    sendSignal(before ?? 0, "SIGTERM");
    await until(
      () => daemon.pidOf(name) !== undefined && daemon.pidOf(name) !== before,
      () => `${name} does not come back`,
      30_000,
    );
  }
  await delay(500);
  stop.abort();
  const counts = await all;
  assert.ok(
    counts.every((count) => count > 0),
    `calls ${counts.join(", ")}`,
  );
});
