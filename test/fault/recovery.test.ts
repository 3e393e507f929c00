import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type Daemon, startFlotilla } from "../kit/daemon.ts";
import { busyboxImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { isRunning, until } from "../kit/processes.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "../kit/temporary-directory.ts";
import { faultsIn } from "./log-faults.ts";
import { probeCalls } from "./probe-calls.ts";
import { findTask, startWaitingRun, type WaitingRun } from "./waiting-run.ts";

/** Far more than recovery takes on a busy machine, less than a client waits that holds a call. */
const recoveryMsMax = 30_000;
const members = ["events", "metadata", "content", "snapshots", "tasks", "nats-server"] as const;

let daemon: Daemon;
let directory: TemporaryDirectory;
let leaks: LeakSnapshot;
const namespace = uniqueNamespace();
const image = "docker.io/library/busybox:test";

const ctr = (...args: string[]) => daemon.ctr("-n", namespace, ...args);
const run = (id: string, exitCode: number, ...flags: string[]): Promise<WaitingRun> =>
  startWaitingRun({ daemon, namespace, image, id, exitCode, directory: directory.path, flags });

before(async () => {
  leaks = await snapshotLeaks();
  directory = await makeTemporaryDirectory("gate");
  daemon = await startFlotilla();
  const { exitCode, stderr } = await ctr("images", "import", (await busyboxImage()).tar);
  assert.equal(exitCode, 0, stderr);
});

after(async () => {
  await daemon?.[Symbol.asyncDispose]();
  await directory?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

for (const [index, name] of members.entries()) {
  test(`kill -9 of ${name}: the container lives, ctr run and ctr events wait on, calls are answered again`, async (t) => {
    const exitCode = 41 + index;
    await using waiting = await run(`k-${name}`, exitCode, "--rm");
    await using follower = await daemon.followEvents();
    await daemon.kill9(name);

    const started = performance.now();
    await within(probeCalls[name]({ transport: daemon.transport, namespace, id: waiting.id }), name);
    t.diagnostic(`${name} answers ${Math.round(performance.now() - started)} ms after its death`);

    assert.deepEqual(await findTask(daemon, namespace, waiting.id), { pid: waiting.pid, status: "RUNNING" });
    await waiting.release();
    assert.deepEqual(await within(waiting.ended, "ctr run"), { exitCode, stderr: "" });
    await follower.until((lines) => lines.some((line) => isExitOf(line, waiting.id)));
    assert.equal(isRunning(waiting.pid), false);
    assert.deepEqual((await ctr("containers", "ls", "-q")).stdout.split("\n").includes(waiting.id), false);
  });
}

test("kill -9 of the gateway: the fleet ends, the container lives, a new daemon finds everything", async () => {
  await using waiting = await run("k-gateway", 3);
  await using follower = await daemon.followEvents();
  const before = await listAll();
  const pids = [...members, "gateway" as const].map((name) => [name, daemon.pidOf(name)] as const);
  for (const [name, pid] of pids) {
    assert.ok(pid !== undefined, `${name} runs`);
  }

  await daemon.kill9("gateway");
  const alive = (): string[] => pids.filter(([, pid]) => pid !== undefined && isRunning(pid)).map(([name]) => name);
  await until(
    () => alive().length === 0,
    () => `${alive().join(", ")} outlive the gateway`,
  );
  await within(follower.ended, "the end of ctr events");
  assert.notEqual((await within(waiting.ended, "ctr run")).exitCode, 3);
  assert.ok(isRunning(waiting.pid), "the container lives without a daemon");

  await daemon.start();
  assert.deepEqual(await findTask(daemon, namespace, waiting.id), { pid: waiting.pid, status: "RUNNING" });
  assert.deepEqual(await listAll(), before);
  const inside = await ctr("tasks", "exec", "--exec-id", "x1", waiting.id, "sh", "-c", "echo inside; exit 5");
  assert.deepEqual([inside.stdout, inside.exitCode], ["inside\n", 5]);
  await killAndRemove(waiting.id);
});

test("an orderly restart ends with status 0 and finds containers again, also those that ended meanwhile", async () => {
  await using stays = await run("r-stays", 0, "--detach");
  await using ends = await run("r-ends", 77, "--detach");
  assert.equal(await daemon.stop(), 0);
  assert.ok(isRunning(stays.pid) && isRunning(ends.pid), "containers live without a daemon");
  await ends.release();
  await until(
    () => !isRunning(ends.pid),
    () => "the container does not end",
  );

  await daemon.start();
  assert.deepEqual(await findTask(daemon, namespace, stays.id), { pid: stays.pid, status: "RUNNING" });
  assert.equal((await findTask(daemon, namespace, ends.id))?.status, "STOPPED");
  const inside = await ctr("tasks", "exec", "--exec-id", "x1", stays.id, "echo", "inside");
  assert.equal(inside.stdout, "inside\n");
  await remove(ends.id, 77);
  await killAndRemove(stays.id);
});

test("the log tells of nothing worse than the deaths", () => {
  assert.deepEqual(faultsIn(daemon.log()), []);
});

/** Names of all images, containers and snapshots. */
async function listAll(): Promise<string[]> {
  const lists = [
    ["images", "ls"],
    ["containers", "ls"],
    ["snapshots", "ls"],
    ["content", "ls", "-q"],
  ];
  return await Promise.all(lists.map(async (args) => (await ctr(...args)).stdout));
}

async function killAndRemove(id: string): Promise<void> {
  assert.equal((await ctr("tasks", "kill", "--signal", "SIGKILL", id)).exitCode, 0);
  await until(
    async () => (await findTask(daemon, namespace, id))?.status === "STOPPED",
    () => `${id} does not stop`,
  );
  await remove(id, 137);
}

/** Removes a task, of which `ctr` then says how it ended, and its container. */
async function remove(id: string, exitCode: number): Promise<void> {
  const removed = await ctr("tasks", "rm", id);
  assert.equal(removed.exitCode, 0, removed.stderr);
  assert.match(removed.stderr, new RegExp(`task ${id} exit with non-zero exit code ${exitCode}\\b`));
  assert.equal((await ctr("containers", "rm", id)).exitCode, 0);
}

function isExitOf(line: string, id: string): boolean {
  return line.includes(` ${namespace} /tasks/exit `) && line.includes(`"container_id":"${id}"`);
}

async function within<T>(promise: Promise<T>, what: string): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`${what}: nothing after ${recoveryMsMax} ms`)), recoveryMsMax);
  try {
    return await Promise.race([promise, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
