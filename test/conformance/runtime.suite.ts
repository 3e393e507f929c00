import assert from "node:assert/strict";
import { access, chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { ErrorKind } from "#base/errors.ts";
import { CheckpointOptionsSchema, OptionsSchema, ProcessDetailsSchema } from "#gen/containerd/runc/v1/options_pb.ts";
import { Status } from "#gen/containerd/v1/types/task_pb.ts";
import { packAny, packSpec, TasksRig } from "../component/tasks-rig.ts";

/** Go's zero time, which stands for a process that has not ended. */
const zeroTime = -62_135_596_800n;

/**
 * What every runtime must do, seen through the Tasks service with real containers.
 *
 * @param runtime - Name of the runtime.
 * @param options.skip - Why it can't run on this machine, or false.
 */
export function runtimeSuite(runtime: string, { skip }: { readonly skip: string | false }): void {
  describe(`runtime ${runtime}`, { skip }, () => {
    let rig: TasksRig;
    let count = 0;

    before(async () => {
      rig = await TasksRig.start();
    });
    after(async () => {
      await rig?.[Symbol.asyncDispose]();
    });

    /** Puts a container on record. @returns its id. */
    const add = (args: readonly string[], wish: Omit<Parameters<TasksRig["addContainer"]>[1], "args"> = {}): string => {
      count += 1;
      const id = `c${count}`;
      rig.addContainer(id, { runtime, ...wish, args });
      return id;
    };
    const create = async (id: string, request: object = {}): Promise<number> =>
      (await rig.tasks.create({ containerId: id, ...rig.bindRootfs(), ...request }, rig.headers)).pid;
    const start = async (containerId: string, execId = ""): Promise<number> =>
      (await rig.tasks.start({ containerId, execId }, rig.headers)).pid;
    const run = async (args: readonly string[], wish?: Parameters<typeof add>[1]): Promise<string> => {
      const id = add(args, wish);
      await create(id);
      await start(id);
      return id;
    };
    const statusOf = async (containerId: string, execId = ""): Promise<Status | undefined> =>
      (await rig.tasks.get({ containerId, execId }, rig.headers)).process?.status;

    test("a task is created, started, waited for and deleted, and tells its events in order", async () => {
      const id = add(["sh", "-c", "exit 3"]);
      const pid = await create(id);
      assert.ok(pid > 0);
      const created = await rig.tasks.get({ containerId: id }, rig.headers);
      assert.deepEqual(
        { ...created.process, $typeName: undefined, exitedAt: created.process?.exitedAt?.seconds },
        {
          $typeName: undefined,
          containerId: "",
          id,
          pid,
          status: Status.CREATED,
          stdin: "",
          stdout: "",
          stderr: "",
          terminal: false,
          exitStatus: 0,
          exitedAt: zeroTime,
        },
      );
      const wait = rig.tasks.wait({ containerId: id }, rig.headers);
      assert.equal(await start(id), pid);
      const waited = await wait;
      assert.equal(waited.exitStatus, 3);
      assert.ok((waited.exitedAt?.seconds ?? 0n) > 1_700_000_000n);
      assert.equal(await statusOf(id), Status.STOPPED);
      assert.deepEqual(await rig.tasks.wait({ containerId: id }, rig.headers), waited);
      const deleted = await rig.tasks.delete({ containerId: id }, rig.headers);
      assert.deepEqual([deleted.id, deleted.pid, deleted.exitStatus], ["", pid, 3]);
      assert.deepEqual(deleted.exitedAt, waited.exitedAt);
      await rig.event(({ topic, fields }) => topic === "/tasks/delete" && fields["containerId"] === id);
      assert.deepEqual(rig.topicsOf(id), ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]);
      await assert.rejects(rig.tasks.wait({ containerId: id }, rig.headers), {
        kind: ErrorKind.NotFound,
        message: `task ${id} not found`,
      });
    });

    test("a task that was never started can be deleted", async () => {
      const id = add(["true"]);
      await create(id);
      const deleted = await rig.tasks.delete({ containerId: id }, rig.headers);
      assert.equal(deleted.exitedAt?.seconds === undefined, false);
    });

    test("an id can be used again as soon as its task is deleted", async () => {
      const id = add(["true"]);
      for (let round = 0; round < 3; round += 1) {
        await create(id);
        const wait = rig.tasks.wait({ containerId: id }, rig.headers);
        await start(id);
        assert.equal((await wait).exitStatus, 0);
        await rig.tasks.delete({ containerId: id }, rig.headers);
      }
    });

    test("tasks that are there, containers that are not, and running tasks are refused in containerd's words", async () => {
      const id = await run(["sleep", "100"]);
      await assert.rejects(create(id), { kind: ErrorKind.AlreadyExists, message: `task ${id}: already exists` });
      await assert.rejects(rig.tasks.delete({ containerId: id }, rig.headers), {
        kind: ErrorKind.Unknown,
        message: /^failed to delete task: cannot delete a running process/,
      });
      await assert.rejects(create("nothing"), {
        kind: ErrorKind.NotFound,
        message: `container "nothing" in namespace "${rig.namespace}": not found`,
      });
      await assert.rejects(rig.tasks.get({ containerId: "nothing" }, rig.headers), {
        kind: ErrorKind.NotFound,
        message: `container "nothing" in namespace "${rig.namespace}": not found`,
      });
      const idle = add(["true"]);
      await assert.rejects(start(idle), { kind: ErrorKind.NotFound, message: `task ${idle} not found` });
      await assert.rejects(rig.tasks.get({ containerId: id }), {
        kind: ErrorKind.FailedPrecondition,
        message: "namespace is required: failed precondition",
      });
      await rig.remove(id);
    });

    test("of two creations of one task at the same time one wins", async () => {
      const id = add(["sleep", "100"]);
      const outcomes = await Promise.allSettled([create(id), create(id)]);
      assert.deepEqual(outcomes.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
      const loser = outcomes.find((outcome) => outcome.status === "rejected");
      assert.match(String(loser?.reason), /already exists$/);
      await rig.tasks.delete({ containerId: id }, rig.headers);
    });

    test("signals end processes with 128 and their number", async () => {
      for (const [signal, status] of [
        [9, 137],
        [15, 143],
      ] as const) {
        const id = await run(["sh", "-c", "trap 'exit 143' TERM; while :; do sleep 0.05; done"]);
        const wait = rig.tasks.wait({ containerId: id }, rig.headers);
        await rig.tasks.kill({ containerId: id, signal }, rig.headers);
        assert.equal((await wait).exitStatus, status);
        await assert.rejects(rig.tasks.kill({ containerId: id, signal }, rig.headers), {
          kind: ErrorKind.NotFound,
          message: /process already finished: not found$/,
        });
        await rig.tasks.delete({ containerId: id }, rig.headers);
      }
    });

    test("execs run, exit, are described and deleted", async () => {
      const id = await run(["sleep", "100"]);
      const exec = (execId: string, args: readonly string[], request: object = {}) =>
        rig.tasks.exec({ containerId: id, execId, spec: rig.processSpec(args), ...request }, rig.headers);
      const pipes = await rig.openPipes(`${id}-exec`, ["stdout", "stderr"]);
      await exec("first", ["sh", "-c", "echo out; echo err >&2; exit 7"], pipes.paths);
      assert.equal(await statusOf(id, "first"), Status.CREATED);
      await assert.rejects(exec("first", ["true"]), {
        kind: ErrorKind.AlreadyExists,
        message: "id first: already exists",
      });
      const wait = rig.tasks.wait({ containerId: id, execId: "first" }, rig.headers);
      const pid = await start(id, "first");
      assert.equal((await wait).exitStatus, 7);
      assert.deepEqual(await pipes.output(), { stdout: "out", stderr: "err" });
      const deleted = await rig.tasks.deleteProcess({ containerId: id, execId: "first" }, rig.headers);
      assert.deepEqual([deleted.id, deleted.pid, deleted.exitStatus], ["first", pid, 7]);
      await rig.event(({ topic, fields }) => topic === "/tasks/exit" && fields["id"] === "first");
      assert.deepEqual(rig.topicsOf(id).slice(2), ["/tasks/exec-added", "/tasks/exec-started", "/tasks/exit"]);
      await assert.rejects(start(id, "first"), { kind: ErrorKind.NotFound });
      await assert.rejects(exec("", ["true"]), { kind: ErrorKind.InvalidArgument, message: "exec id cannot be empty" });
      await assert.rejects(exec("a/b", ["true"]), {
        kind: ErrorKind.InvalidArgument,
        message: /^invalid exec id a\/b: identifier "a\/b" must match .*: invalid argument$/,
      });
      await rig.remove(id);
    });

    test("an exec of a program that is not there fails with the runtime's words", async () => {
      const id = await run(["sleep", "100"]);
      const request = { containerId: id, execId: "bad", spec: rig.processSpec(["no-such-program"]) };
      await rig.tasks.exec(request, rig.headers);
      await assert.rejects(start(id, "bad"), { message: /executable file not found in \$PATH/ });
      await rig.tasks.deleteProcess({ containerId: id, execId: "bad" }, rig.headers);
      await rig.remove(id);
    });

    test("an exec with a terminal has the size it is given", async () => {
      const id = await run(["sleep", "100"]);
      const pipes = await rig.openPipes(`${id}-tty`, ["stdin", "stdout"]);
      const spec = rig.processSpec(["sh", "-c", "read line; stty size; echo got $line"], { terminal: true });
      const process = { containerId: id, execId: "tty" };
      await rig.tasks.exec({ ...process, terminal: true, spec, ...pipes.paths }, rig.headers);
      const wait = rig.tasks.wait(process, rig.headers);
      await rig.tasks.start(process, rig.headers);
      await rig.tasks.resizePty({ ...process, width: 91, height: 37 }, rig.headers);
      await pipes.write("hello\n");
      assert.equal((await wait).exitStatus, 0);
      assert.match((await pipes.output())["stdout"] ?? "", /37 91\r?\ngot hello/);
      await pipes.close();
      await rig.tasks.deleteProcess(process, rig.headers);
      await rig.remove(id);
    });

    test("standard input arrives, and ends when it is closed", async () => {
      const id = add(["cat"]);
      const pipes = await rig.openPipes(id, ["stdin", "stdout", "stderr"]);
      await create(id, pipes.paths);
      const wait = rig.tasks.wait({ containerId: id }, rig.headers);
      await start(id);
      await pipes.write("one line\n");
      await pipes.close();
      await rig.tasks.closeIO({ containerId: id, stdin: true }, rig.headers);
      assert.equal((await wait).exitStatus, 0);
      assert.deepEqual(await pipes.output(), { stdout: "one line", stderr: "" });
      await rig.tasks.delete({ containerId: id }, rig.headers);
    });

    test("output goes into a file", async () => {
      const id = add(["sh", "-c", "echo out; echo err >&2"]);
      const path = `${rig.directory}/logs/${id}.log`;
      await create(id, { stdout: `file://${path}`, stderr: `file://${path}` });
      const wait = rig.tasks.wait({ containerId: id }, rig.headers);
      await start(id);
      await wait;
      await rig.tasks.delete({ containerId: id }, rig.headers);
      assert.deepEqual((await readFile(path, "utf8")).trim().split("\n").sort(), ["err", "out"]);
    });

    test("output goes to a logging program", async () => {
      const id = add(["sh", "-c", "echo out; echo err >&2"]);
      const logger = `${rig.directory}/logger.sh`;
      const script = [
        "#!/bin/sh",
        'target="$2"',
        'echo "$CONTAINER_NAMESPACE/$CONTAINER_ID" > "$target.who"',
        "exec 5>&-",
        'cat <&3 > "$target.out" & first=$!',
        'cat <&4 > "$target.err" & second=$!',
        "wait $first $second",
        'touch "$target.done"',
        "",
      ];
      await writeFile(logger, script.join("\n"));
      await chmod(logger, 0o755);
      const target = `${rig.directory}/logged-${id}`;
      const uri = `binary://${logger}?to=${encodeURIComponent(target)}`;
      await create(id, { stdout: uri, stderr: uri });
      const wait = rig.tasks.wait({ containerId: id }, rig.headers);
      await start(id);
      await wait;
      await rig.tasks.delete({ containerId: id }, rig.headers);
      assert.equal(await readFile(`${target}.out`, "utf8"), "out\n");
      assert.equal(await readFile(`${target}.err`, "utf8"), "err\n");
      assert.equal(await readFile(`${target}.who`, "utf8"), `${rig.namespace}/${id}\n`);
    });

    test("a task is paused and resumed, only in the states for that", async () => {
      const id = add(["sleep", "100"]);
      await create(id);
      await assert.rejects(rig.tasks.pause({ containerId: id }, rig.headers), {
        kind: ErrorKind.Unknown,
        message: /cannot pause task in created state/,
      });
      await start(id);
      await rig.tasks.pause({ containerId: id }, rig.headers);
      assert.equal(await statusOf(id), Status.PAUSED);
      await rig.tasks.resume({ containerId: id }, rig.headers);
      assert.equal(await statusOf(id), Status.RUNNING);
      await rig.event(({ topic, fields }) => topic === "/tasks/resumed" && fields["containerId"] === id);
      assert.deepEqual(rig.topicsOf(id).slice(2), ["/tasks/paused", "/tasks/resumed"]);
      await rig.remove(id);
    });

    test("processes are listed with the execs that they belong to", async () => {
      const id = await run(["sleep", "100"]);
      await rig.tasks.exec({ containerId: id, execId: "e", spec: rig.processSpec(["sleep", "99"]) }, rig.headers);
      const pid = await start(id, "e");
      const { processes } = await rig.tasks.listPids({ containerId: id }, rig.headers);
      assert.equal(processes.length, 2);
      const info = processes.find((process) => process.pid === pid)?.info;
      assert.equal(info?.typeUrl, ProcessDetailsSchema.typeName);
      assert.equal(fromBinary(ProcessDetailsSchema, info?.value ?? new Uint8Array()).execId, "e");
      await assert.rejects(rig.tasks.deleteProcess({ containerId: id, execId: "e" }, rig.headers), {
        kind: ErrorKind.Unknown,
        message: /cannot delete a running process/,
      });
      await rig.remove(id);
    });

    test("lists hold the tasks of their namespace", async () => {
      const ids = await Promise.all([run(["sleep", "100"]), run(["sleep", "100"])]);
      const { tasks } = await rig.tasks.list({ filter: "id==nothing" }, rig.headers);
      assert.deepEqual(
        new Map(tasks.map(({ id, status }) => [id, status])),
        new Map(ids.map((id) => [id, Status.RUNNING])),
      );
      const elsewhere = { headers: { "containerd-namespace": "elsewhere" } };
      assert.deepEqual((await rig.tasks.list({}, elsewhere)).tasks, []);
      await assert.rejects(rig.tasks.get({ containerId: "x" }, elsewhere), { kind: ErrorKind.NotFound });
      await Promise.all(ids.map((id) => rig.remove(id)));
    });

    test("resources are changed while a task runs, and metrics tell", async () => {
      const id = await run(["sleep", "100"]);
      const limit = 32 * 1024 * 1024;
      await rig.tasks.update(
        { containerId: id, resources: packSpec("LinuxResources", { memory: { limit } }) },
        rig.headers,
      );
      const { metrics } = await rig.tasks.metrics({ filters: [`id==${id}`] }, rig.headers);
      assert.deepEqual(
        metrics.map((metric) => metric.id),
        [id],
      );
      assert.match(metrics[0]?.data?.typeUrl ?? "", /^io\.containerd\.cgroups\.v[12]\.Metrics$/);
      assert.ok((metrics[0]?.timestamp?.seconds ?? 0n) > 1_700_000_000n);
      const byNamespace = await rig.tasks.metrics({ filters: [`namespace==${rig.namespace},id==${id}`] }, rig.headers);
      assert.equal(byNamespace.metrics.length, 1);
      assert.deepEqual((await rig.tasks.metrics({ filters: ["id==nothing"] }, rig.headers)).metrics, []);
      await assert.rejects(rig.tasks.metrics({ filters: ["id=="] }, rig.headers), { kind: ErrorKind.Unknown });
      await rig.remove(id);
    });

    test("a container that runs out of memory tells it", async () => {
      const id = await run(["/bin/busybox", "tail", "/dev/zero"]);
      const { exitStatus } = await rig.tasks.wait({ containerId: id }, rig.headers);
      assert.equal(exitStatus, 137);
      const { topic } = await rig.event((event) => event.topic === "/tasks/oom" && event.fields["containerId"] === id);
      assert.equal(topic, "/tasks/oom");
      await rig.tasks.delete({ containerId: id }, rig.headers);
    });

    test("a program that is not there fails with the runtime's words, and nothing is left", async () => {
      const id = add(["no-such-program"]);
      await assert.rejects(create(id), {
        kind: ErrorKind.Unknown,
        message:
          /^failed to create shim task: OCI runtime create failed: .*exec: "no-such-program": executable file not found in \$PATH/,
      });
      await assert.rejects(access(rig.bundlePath(id)), { code: "ENOENT" });
      await assert.rejects(rig.tasks.get({ containerId: id }, rig.headers), { message: `task ${id} not found` });
      const again = add(["true"]);
      await create(again);
      await rig.tasks.delete({ containerId: again }, rig.headers);
    });

    test("runtimes that are not there and options that are none are refused in containerd's words", async () => {
      const missing = add(["true"], { runtime: "io.containerd.nothing.v9" });
      await assert.rejects(create(missing), {
        kind: ErrorKind.Unknown,
        message:
          'failed to start shim: failed to resolve runtime path: runtime "io.containerd.nothing.v9" binary not installed "containerd-shim-nothing-v9": file does not exist',
      });
      const relative = add(["true"], { runtime: "./bin/shim" });
      await assert.rejects(create(relative), { message: /invalid runtime name \.\/bin\/shim, correct runtime name/ });
      const id = add(["true"]);
      await assert.rejects(create(id, { runtimePath: "/no/such/shim" }), {
        message:
          "failed to start shim: failed to resolve runtime path: invalid custom binary path: stat /no/such/shim: no such file or directory",
      });
      await assert.rejects(create(id, { options: { typeUrl: "no.such.Type", value: Buffer.from("x") } }), {
        kind: ErrorKind.Unknown,
        message: "type with url no.such.Type: not found",
      });
      await assert.rejects(create(id, { options: packAny(CheckpointOptionsSchema, { exit: true }) }), {
        kind: ErrorKind.Unknown,
        message: /type with url|invalid task create option for/,
      });
      await assert.rejects(create(id, { checkpoint: { mediaType: "text/plain" } }), {
        kind: ErrorKind.Unknown,
        message: 'unsupported checkpoint type "text/plain"',
      });
      await create(id, { options: packAny(OptionsSchema, { noPivotRoot: false, ioUid: 0, binaryName: "runc" }) });
      await rig.tasks.delete({ containerId: id }, rig.headers);
    });

    test("a checkpoint that the machine can't make fails and leaves nothing", async () => {
      const id = await run(["sleep", "100"]);
      await assert.rejects(rig.tasks.checkpoint({ containerId: id }, rig.headers), { kind: ErrorKind.Unknown });
      assert.equal(rig.written.size, 0);
      await assert.rejects(rig.tasks.checkpoint({ containerId: id, options: packAny(AnySchema, {}) }, rig.headers), {
        message: /^type with url google\.protobuf\.Any: not found$/,
      });
      assert.equal(await statusOf(id), Status.RUNNING);
      await rig.remove(id);
    });

    test("what is mounted for a task is unmounted with it", async () => {
      const id = await run(["sleep", "100"]);
      const mounted = await readFile("/proc/self/mountinfo", "utf8");
      assert.ok(mounted.includes(`${rig.bundlePath(id)}/rootfs`));
      await rig.remove(id);
      assert.ok(!(await readFile("/proc/self/mountinfo", "utf8")).includes(rig.bundlePath(id)));
    });

    test("containers outlive the process: state, exits and execs are there after it was killed", async () => {
      const running = await run(["sleep", "100"]);
      const ended = await run(["sh", "-c", "exit 5"]);
      await rig.tasks.wait({ containerId: ended }, rig.headers);
      const ending = await run(["sh", "-c", "while ! [ -e /tmp/go ]; do sleep 0.02; done; exit 6"]);
      await rig.endProcess("SIGKILL");
      await mkdir(`${rig.rootfs}/tmp/go`);
      const wait = rig.tasks.wait({ containerId: ending }, rig.headers);
      await rig.startProcess();
      assert.equal((await wait).exitStatus, 6);
      assert.equal(await statusOf(running), Status.RUNNING);
      assert.equal(await statusOf(ended), Status.STOPPED);
      assert.equal((await rig.tasks.wait({ containerId: ended }, rig.headers)).exitStatus, 5);
      const exec = { containerId: running, execId: "late" };
      await rig.tasks.exec({ ...exec, spec: rig.processSpec(["sh", "-c", "exit 4"]) }, rig.headers);
      const exit = rig.tasks.wait(exec, rig.headers);
      await rig.tasks.start(exec, rig.headers);
      assert.equal((await exit).exitStatus, 4);
      for (const id of [ended, ending]) {
        await rig.tasks.delete({ containerId: id }, rig.headers);
      }
      await rig.remove(running);
    });

    test("a wait survives the process that it waited in", async () => {
      const id = await run(["sh", "-c", "while ! [ -e /tmp/end ]; do sleep 0.02; done; exit 9"]);
      const wait = rig.tasks.wait({ containerId: id }, rig.headers);
      await rig.tasks.get({ containerId: id }, rig.headers);
      await rig.endProcess("SIGKILL");
      await rig.startProcess();
      await mkdir(`${rig.rootfs}/tmp/end`);
      assert.equal((await wait).exitStatus, 9);
      await rig.tasks.delete({ containerId: id }, rig.headers);
    });

    test("a process that is asked to stop leaves its containers alone", async () => {
      const id = await run(["sleep", "100"]);
      const wait = rig.tasks.wait({ containerId: id }, rig.headers);
      assert.equal(await statusOf(id), Status.RUNNING);
      assert.equal(await rig.endProcess("SIGTERM"), 0);
      await rig.startProcess();
      assert.equal(await statusOf(id), Status.RUNNING);
      await rig.remove(id);
      assert.equal((await wait).exitStatus, 137);
    });
  });
}
