import assert from "node:assert/strict";
import { readFile, rm } from "node:fs/promises";
import test from "node:test";
import { Status } from "#gen/containerd/v1/types/task_pb.ts";
import { unmountRecursive } from "#linux/unmount.ts";
import { until } from "../kit/processes.ts";
import { lacksContainers, TasksRig } from "./tasks-rig.ts";

const skip = { skip: lacksContainers };
const label = (name: string): string => `containerd.io/restart.${name}`;
const waitMsMax = 30_000;

/** Labels of a container that is to run. */
function running(policy: string, more: Readonly<Record<string, string>> = {}): Record<string, string> {
  return { [label("status")]: "running", [label("policy")]: policy, ...more };
}

/** Runs a container that is nobody's business until it runs. @returns its process id. */
async function runLabelled(
  rig: TasksRig,
  id: string,
  args: readonly string[],
  labels: Record<string, string>,
): Promise<number> {
  const pid = await rig.run(id, args);
  rig.setLabels(id, labels);
  return pid;
}

/** Process id of the running task of a container; 0 for none. */
async function runningPid(rig: TasksRig, id: string): Promise<number> {
  const { tasks } = await rig.tasks.list({}, rig.headers);
  return tasks.find((task) => task.id === id && task.status === Status.RUNNING)?.pid ?? 0;
}

async function isAgain(rig: TasksRig, id: string, formerPid: number): Promise<number> {
  let pid = 0;
  await until(
    async () => {
      pid = await runningPid(rig, id);
      return pid !== 0 && pid !== formerPid;
    },
    () => `${id} does not run again:\n${rig.log}`,
    waitMsMax,
  );
  return pid;
}

/** Waits until the monitor has certainly looked at everything: a container of its own was started by it. */
async function letLook(rig: TasksRig, name: string): Promise<void> {
  rig.addContainer(name, { args: ["sleep", "100"], labels: running("always") });
  await isAgain(rig, name, 0);
}

test("a container whose process is killed runs again, counted, with its output where it went", skip, async () => {
  await using rig = await TasksRig.start();
  const output = `${rig.directory}/output`;
  const labels = running("always", { [label("loguri")]: `file://${output}` });
  const pid = await runLabelled(rig, "one", ["sh", "-c", "echo hello; sleep 100"], labels);
  process.kill(pid, "SIGKILL");
  const next = await isAgain(rig, "one", pid);
  assert.equal(rig.container("one")?.labels?.[label("count")], "1");
  await until(
    async () => (await readFile(output, "utf8").catch(() => "")).includes("hello"),
    () => "its output is not in the file",
    waitMsMax,
  );
  // The same when all that this process knows, and the whole state directory, are gone, as after a reboot.
  await rig.endProcess("SIGKILL");
  for (const shim of await rig.shims()) {
    process.kill(shim, "SIGKILL");
  }
  process.kill(next, "SIGKILL");
  await unmountRecursive(rig.bundlePath("one"));
  await rm(`${rig.state}/io.containerd.runtime.v2.task`, { recursive: true, force: true });
  await rm(`/run/containerd/runc/${rig.namespace}`, { recursive: true, force: true });
  await rig.startProcess();
  await isAgain(rig, "one", next);
});

test(
  "what failed twice, was stopped by a user or is not to run stays as it is, and what is to stop is stopped",
  skip,
  async () => {
    await using rig = await TasksRig.start();
    const stopped = { [label("explicitly-stopped")]: "true" };
    await runLabelled(rig, "failing", ["sh", "-c", "exit 3"], running("on-failure:2"));
    await runLabelled(rig, "done", ["true"], running("on-failure"));
    await runLabelled(rig, "never", ["sh", "-c", "exit 3"], running("no"));
    await runLabelled(rig, "odd", ["sh", "-c", "exit 3"], running("sometimes"));
    const users = new Map<string, number>();
    for (const policy of ["always", "unless-stopped", "on-failure"]) {
      users.set(policy, await runLabelled(rig, policy, ["sleep", "100"], running(policy, stopped)));
    }
    const unwanted = await runLabelled(rig, "unwanted", ["sleep", "100"], { [label("status")]: "stopped" });
    for (const pid of users.values()) {
      process.kill(pid, "SIGKILL");
    }
    await until(
      () => rig.container("failing")?.labels?.[label("count")] === "2",
      () => `it was not started twice:\n${rig.log}`,
      waitMsMax,
    );
    await letLook(rig, "witness");
    await rig.endProcess("SIGKILL");
    await rig.startProcess();
    await letLook(rig, "witness-after-start");
    await until(
      async () => (await rig.tasks.list({}, rig.headers)).tasks.every(({ id }) => id !== "unwanted"),
      () => "what is to stop is not stopped",
      waitMsMax,
    );
    assert.throws(() => process.kill(unwanted, 0), { code: "ESRCH" });
    const counts = ["failing", "done", "never", "odd", ...users.keys()].map((id) => [
      id,
      rig.container(id)?.labels?.[label("count")],
    ]);
    assert.deepEqual(counts, [
      ["failing", "2"],
      ["done", undefined],
      ["never", undefined],
      ["odd", undefined],
      ["always", undefined],
      ["unless-stopped", undefined],
      ["on-failure", undefined],
    ]);
    assert.match(rig.log, /restart policy \\"sometimes\\" not supported/);
  },
);

test("a container that a user stops while it is being started again does not go on running", skip, async () => {
  await using rig = await TasksRig.start();
  let starts = 0;
  rig.onMounts = (key) => {
    if (key === "late") {
      // The record was looked at and there is no task yet: who stops it now finds nothing to end.
      starts += 1;
      rig.setLabels("late", { [label("explicitly-stopped")]: "true" });
    }
  };
  const pid = await runLabelled(rig, "late", ["sleep", "100"], running("unless-stopped"));
  process.kill(pid, "SIGKILL");
  await until(
    () => rig.log.includes("ending a container that was stopped while it was started again"),
    () => `it was not ended:\n${rig.log}`,
    waitMsMax,
  );
  await until(
    async () => (await runningPid(rig, "late")) === 0,
    () => "it runs on",
    waitMsMax,
  );
  await letLook(rig, "witness-of-late");
  assert.equal(starts, 1);
  assert.equal(await runningPid(rig, "late"), 0);
});
