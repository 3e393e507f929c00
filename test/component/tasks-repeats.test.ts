import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { Tasks } from "#gen/containerd/services/tasks/v1/tasks_pb.ts";
import { Status } from "#gen/containerd/v1/types/task_pb.ts";
import { seededRandom } from "../fault/random.ts";
import { until } from "../kit/processes.ts";
import { cutting } from "./tasks-cut.ts";
import { lacksContainers, TasksRig } from "./tasks-rig.ts";

const skip = { skip: lacksContainers };
const killSignal = 9;
const userSignal = 10;
const randomRuns = 12;
/** About how long a call takes that starts a program. */
const callMsMax = 120;

/** What a container and its exec have left, one mark for each time that they ran. */
async function marksOf(rig: TasksRig, id: string): Promise<string[]> {
  const text = await readFile(`${rig.rootfs}/marks-${id}`, "utf8").catch(() => "");
  return text.split("\n").filter((mark) => mark !== "");
}

const marking = (id: string, mark: string, then: string): string[] => [
  "sh",
  "-c",
  `echo ${mark} >> /marks-${id}; ${then}`,
];

/** Shims end after their tasks are deleted. */
async function noShims(rig: TasksRig): Promise<void> {
  await until(
    async () => (await rig.shims()).length === 0,
    () => `shims are left:\n${rig.log}`,
    30_000,
  );
}

/** Waits until what a process leaves is there. */
async function marked(rig: TasksRig, id: string, mark: string): Promise<void> {
  await until(
    async () => (await marksOf(rig, id)).includes(mark),
    () => `${mark} is not there:\n${rig.log}`,
    30_000,
  );
}

test(
  "calls whose process dies after they are done and before the answer succeed, and do nothing twice",
  skip,
  async () => {
    await using rig = await TasksRig.start();
    const { headers } = rig;
    await using ways = new AsyncDisposableStack();
    const cut = cutting(rig, Tasks, (tasks) => tasks.list({}, headers), ways);
    rig.addContainer("one", { args: marking("one", "ran", "sleep 100") });
    const containerId = "one";
    const { pid } = await cut((tasks) => tasks.create({ containerId, ...rig.bindRootfs() }, headers));
    assert.equal((await rig.tasks.get({ containerId }, headers)).process?.pid, pid);
    assert.equal((await cut((tasks) => tasks.start({ containerId }, headers))).pid, pid);
    await cut((tasks) => tasks.pause({ containerId }, headers));
    assert.equal((await rig.tasks.get({ containerId }, headers)).process?.status, Status.PAUSED);
    await cut((tasks) => tasks.resume({ containerId }, headers));
    const execId = "two";
    const spec = rig.processSpec(marking("one", "also", "exit 5"));
    await cut((tasks) => tasks.exec({ containerId, execId, spec }, headers));
    const exec = await cut((tasks) => tasks.start({ containerId, execId }, headers));
    await rig.tasks.wait({ containerId, execId }, headers);
    const deletedExec = await cut((tasks) => tasks.deleteProcess({ containerId, execId }, headers));
    assert.deepEqual([deletedExec.id, deletedExec.pid, deletedExec.exitStatus], [execId, exec.pid, 5]);
    await marked(rig, "one", "ran");
    await cut((tasks) => tasks.kill({ containerId, signal: killSignal }, headers));
    const end = await rig.tasks.wait({ containerId }, headers);
    const deleted = await cut((tasks) => tasks.delete({ containerId }, headers));
    assert.deepEqual([deleted.pid, deleted.exitStatus, deleted.exitedAt], [pid, 137, end.exitedAt]);
    assert.deepEqual((await marksOf(rig, "one")).sort(), ["also", "ran"]);
    await noShims(rig);
    for (const topic of ["create", "start", "exec-started", "delete"]) {
      assert.equal(rig.topicsOf("one").filter((seen) => seen === `/tasks/${topic}`).length, 1, topic);
    }
  },
);

test("a call that another call has overtaken is not taken for done", skip, async () => {
  await using rig = await TasksRig.start();
  await rig.run("one", ["sleep", "100"]);
  const refused = rig.tasks.start({ containerId: "one" }, rig.headers);
  await assert.rejects(refused, (error) => isFailure(error) && !isFailure(error, ErrorKind.Unavailable));
  await assert.rejects(rig.tasks.create({ containerId: "one", ...rig.bindRootfs() }, rig.headers), (error) =>
    isFailure(error, ErrorKind.AlreadyExists),
  );
  await rig.tasks.kill({ containerId: "one", signal: userSignal }, rig.headers);
  await rig.remove("one");
});

test(
  "kill -9 at any moment of a container's life: every call succeeds, and the container runs once",
  skip,
  async (t) => {
    await using rig = await TasksRig.start();
    const { headers } = rig;
    const random = seededRandom();
    t.diagnostic(`FLOTILLA_TEST_SEED=${random.seed}`);
    let unknown = 0;
    for (let run = 0; run < randomRuns; run += 1) {
      const containerId = `c${run}`;
      const cut = random.below(6);
      let step = 0;
      /** Makes a call, amid which the process dies if it is its turn. */
      const make = async <T>(call: () => Promise<T>): Promise<T> => {
        const answer = call();
        answer.catch(() => undefined);
        if (step === cut) {
          await delay(random.below(callMsMax));
          await rig.endProcess("SIGKILL");
          await rig.startProcess();
        }
        step += 1;
        return await answer;
      };
      rig.addContainer(containerId, { args: marking(containerId, "ran", "sleep 100") });
      const { pid } = await make(() => rig.tasks.create({ containerId, ...rig.bindRootfs() }, headers));
      const started = await make(() => rig.tasks.start({ containerId }, headers));
      assert.equal(started.pid, pid);
      await marked(rig, containerId, "ran");
      const execId = "exec";
      const spec = rig.processSpec(marking(containerId, "also", "exit 5"));
      await make(() => rig.tasks.exec({ containerId, execId, spec }, headers));
      let ranExec = true;
      try {
        await make(() => rig.tasks.start({ containerId, execId }, headers));
      } catch (error) {
        // Nobody can know it then, and nothing is done twice.
        assert.ok(isFailure(error, ErrorKind.Unavailable) && /whether exec process/.test(error.message), String(error));
        ranExec = false;
        unknown += 1;
      }
      if (ranExec) {
        assert.equal((await rig.tasks.wait({ containerId, execId }, headers)).exitStatus, 5);
      }
      const wait = rig.tasks.wait({ containerId }, headers);
      await make(() => rig.tasks.kill({ containerId, signal: killSignal }, headers));
      const end = await wait;
      const deleted = await make(() => rig.tasks.delete({ containerId }, headers));
      assert.deepEqual([deleted.pid, deleted.exitStatus, deleted.exitedAt], [pid, 137, end.exitedAt]);
      const marks = await marksOf(rig, containerId);
      assert.equal(marks.filter((mark) => mark === "ran").length, 1);
      assert.ok(marks.filter((mark) => mark === "also").length <= 1);
    }
    t.diagnostic(`${unknown} starts of execs of which nobody knew`);
    await noShims(rig);
  },
);
