import assert from "node:assert/strict";
import { mkdir, truncate, writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "@connectrpc/connect";
import { Leases } from "#gen/containerd/services/leases/v1/leases_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import { findInconsistencies } from "../kit/check.ts";
import { type Daemon, type DaemonProcess, startFlotilla } from "../kit/daemon.ts";
import { bigImage, busyboxImage, type TestImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { until } from "../kit/processes.ts";
import { faultsIn } from "./log-faults.ts";
import { type Random, seededRandom } from "./random.ts";

const processes = ["events", "nats-server", "metadata", "content", "snapshots", "tasks", "gateway"] as const;
const trafficMs = 40_000;
/** A process that dies more than ten times within a minute of its starts is given up, unless the gateway dies too. */
const killsOfOneMax = 8;
const gatewayKillsMax = 2;
/** So that clients which find no daemon leave the machine to the one that is starting. */
const failedMs = 300;
const pauseMsMax = 3_000;

let daemon: Daemon;
let leaks: LeakSnapshot;
/** Containers run from this one, */
let image: TestImage;
/** and this one comes and goes. */
let passing: TestImage;
const namespace = uniqueNamespace();
const ctr = (...args: string[]) => daemon.ctr("-n", namespace, ...args);

before(async () => {
  leaks = await snapshotLeaks();
  image = await busyboxImage();
  passing = await bigImage({ layers: 3, sizeMb: 4, files: 300 });
  daemon = await startFlotilla();
  assert.equal((await ctr("images", "import", image.tar)).exitCode, 0, daemon.log());
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

test("whatever is killed while clients work, records, files and processes fit together afterwards", async (t) => {
  const random = seededRandom();
  t.diagnostic(`FLOTILLA_TEST_SEED=${random.seed}`);
  const stop = new AbortController();
  const traffic = Promise.all([runImages(stop.signal), runContainers(stop.signal)]);
  const kills = await killAtRandom(random).finally(() => stop.abort());
  const [images, containers] = await traffic;
  t.diagnostic(`kills ${JSON.stringify(kills)}; imported ${images.join("/")}, ran ${containers.join("/")}`);
  assert.ok((images[0] ?? 0) > 0 && (containers[0] ?? 0) > 0, "something succeeds between the kills");

  await removeEverything();
  assert.deepEqual(await findInconsistencies(daemon, { namespace }), []);
  assert.equal((await ctr("snapshots", "ls")).stdout.trim().split("\n").length, 1);
  assert.equal((await ctr("content", "ls", "-q")).stdout, "");

  assert.equal((await ctr("images", "import", image.tar)).exitCode, 0, daemon.log());
  assert.equal((await ctr("run", "--rm", image.name, "last", "sh", "-c", "exit 9")).exitCode, 9, daemon.log());
  assert.deepEqual(await findInconsistencies(daemon, { namespace }), []);
});

test("the check for that finds what does not fit", async () => {
  const stray = "0".repeat(64);
  await writeFile(`${daemon.root}/io.containerd.content.v1.content/blobs/sha256/${stray}`, "");
  await mkdir(`${daemon.root}/io.containerd.snapshotter.v1.native/snapshots/99`, { recursive: true });
  await mkdir(`${daemon.state}/io.containerd.runtime.v2.task/${namespace}/stray`, { recursive: true });
  const [layer = ""] = image.layers.map(({ digest }) => digest.replace("sha256:", ""));
  await truncate(`${daemon.root}/io.containerd.content.v1.content/blobs/sha256/${layer}`, 5);
  const found = await findInconsistencies(daemon, { namespace, settleMs: 0 });
  for (const what of [
    `blob sha256:${stray} of 0 bytes: without a record`,
    "snapshot native 99: without a record",
    `bundle ${namespace}/stray: without a record`,
    `blob sha256:${layer} of 5 bytes: without a record`,
  ]) {
    assert.ok(found.includes(what), `${what} is not among ${found.join("\n")}`);
  }
});

test("the log tells of nothing worse than the deaths", () => {
  assert.deepEqual(faultsIn(daemon.log()), []);
});

/** @returns how often each process was killed. */
async function killAtRandom(random: Random): Promise<Record<string, number>> {
  const kills: Record<string, number> = {};
  const isLeft = (name: DaemonProcess): boolean =>
    (kills[name] ?? 0) < (name === "gateway" ? gatewayKillsMax : killsOfOneMax);
  for (const deadline = performance.now() + trafficMs; performance.now() < deadline; ) {
    const [first = "events", ...others] = processes.filter(isLeft);
    const name = random.pick([first, ...others]);
    await until(
      () => daemon.pidOf(name) !== undefined,
      () => `${name} is not started again:\n${daemon.log()}`,
      30_000,
    );
    await delay(random.below(pauseMsMax));
    await daemon.kill9(name);
    kills[name] = (kills[name] ?? 0) + 1;
    if (name === "gateway") {
      await daemon.start();
    }
  }
  return kills;
}

/** Imports and removes an image over and over. @returns how often that succeeded and was tried. */
async function runImages(signal: AbortSignal): Promise<number[]> {
  let [succeeded, tried] = [0, 0];
  while (!signal.aborted) {
    tried++;
    const imported = await ctr("images", "import", passing.tar);
    const tagged = await ctr("images", "tag", "--force", passing.name, "docker.io/library/copy:test");
    const removed = await ctr("images", "rm", "--sync", passing.name, "docker.io/library/copy:test");
    const isDone = [imported, tagged, removed].every(({ exitCode }) => exitCode === 0);
    succeeded += isDone ? 1 : 0;
    await delay(isDone ? 0 : failedMs);
  }
  return [succeeded, tried];
}

/** Runs one container after the other. @returns how often that succeeded and was tried. */
async function runContainers(signal: AbortSignal): Promise<number[]> {
  let [succeeded, tried] = [0, 0];
  while (!signal.aborted) {
    const { exitCode } = await ctr("run", "--rm", image.name, `c${tried}`, "sh", "-c", "sleep 0.1; exit 7");
    tried++;
    succeeded += exitCode === 7 ? 1 : 0;
    await delay(exitCode === 7 ? 0 : failedMs);
  }
  return [succeeded, tried];
}

/** Removes what clients left whose calls failed. */
async function removeEverything(): Promise<void> {
  const names = async (...args: string[]): Promise<string[]> =>
    (await ctr(...args, "ls", "-q")).stdout.split("\n").filter((name) => name !== "");
  const remove = async (...args: string[]): Promise<void> => {
    const { exitCode, stderr } = await ctr(...args);
    assert.ok(exitCode === 0 || /exit with non-zero|not found/.test(stderr), `${args.join(" ")}: ${stderr}`);
  };
  for (const id of await names("tasks")) {
    await ctr("tasks", "rm", "--force", id);
  }
  assert.deepEqual(await names("tasks"), []);
  for (const id of await names("containers")) {
    await remove("containers", "rm", id);
  }
  for (const name of await names("images")) {
    await remove("images", "rm", name);
  }
  const leases = createClient(Leases, daemon.transport);
  const headers = clientHeaders(namespace);
  for (const { id } of (await leases.list({}, { headers })).leases) {
    await leases.delete({ id, sync: true }, { headers });
  }
}
