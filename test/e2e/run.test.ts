import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { readFileIfThere } from "#base/durable-file.ts";
import { OptionsSchema } from "#gen/containerd/runc/v1/options_pb.ts";
import { Introspection } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { Tasks } from "#gen/containerd/services/tasks/v1/tasks_pb.ts";
import { clientHeaders } from "#wire/headers.ts";
import { type Daemon, startContainerd, startFlotilla } from "../kit/daemon.ts";
import { busyboxImage } from "../kit/image.ts";
import { assertNoLeaks, type LeakSnapshot, snapshotLeaks } from "../kit/leaks.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { until } from "../kit/processes.ts";
import { makeTemporaryDirectory, type TemporaryDirectory } from "../kit/temporary-directory.ts";
import { runInTerminal } from "../kit/terminal.ts";
import { assertParity, type Step } from "./parity.ts";

let ours: Daemon;
let theirs: Daemon;
let leaks: LeakSnapshot;
let directory: TemporaryDirectory;
const namespace = uniqueNamespace();
const image = "docker.io/library/busybox:test";
/** `ctr` sets the size of the terminal after it has started the process. */
const waitForSize = 'test -t 0 && test -t 1 && while [ -z "$(stty size 2>/dev/null)" ]; do :; done; stty size';

before(async () => {
  leaks = await snapshotLeaks();
  directory = await makeTemporaryDirectory("run");
  const { tar } = await busyboxImage();
  [ours, theirs] = await Promise.all([startFlotilla(), startContainerd()]);
  for (const daemon of [ours, theirs]) {
    const { exitCode, stderr } = await daemon.ctr("-n", namespace, "images", "import", tar);
    assert.equal(exitCode, 0, stderr);
  }
});

after(async () => {
  await ours?.[Symbol.asyncDispose]();
  await theirs?.[Symbol.asyncDispose]();
  await directory?.[Symbol.asyncDispose]();
  await assertNoLeaks(leaks);
});

/**
 * Both daemons run the same containers. Their runc state and cgroups are named by namespace and id, host-wide, so they take turns, and each
 * scenario removes what it makes.
 */
const parity = (...steps: Step[]) => assertParity({ ours, theirs }, namespace, steps);

test("run --rm gives output, errors and exit codes through", async () => {
  const outcomes = await parity(
    ["run", "--rm", image, "r1", "echo", "hello"],
    ["run", "--rm", image, "r2", "sh", "-c", "echo out; echo err >&2; exit 3"],
    ["run", "--rm", image, "r3", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"],
    ["run", "--rm", image, "r4", "no-such-program"],
    ["run", "--rm", "docker.io/library/absent:1", "r5", "true"],
    ["run", "--rm", "--runtime", "io.containerd.absent.v9", image, "r6", "true"],
    ["containers", "ls", "-q"],
    ["snapshots", "ls"],
  );
  assert.equal(outcomes[0]?.stdout, "hello\n");
  assert.deepEqual([outcomes[1]?.stdout, outcomes[1]?.stderr, outcomes[1]?.exitCode], ["out\n", "err\n", 3]);
  assert.equal(outcomes[2]?.exitCode, 137);
});

test("run takes environment, mounts, host network and a read-only root", async () => {
  await writeFile(join(directory.path, "given"), "from the host\n");
  const bind = `type=bind,src=${directory.path},dst=/given,options=rbind:ro`;
  const outcomes = await parity(
    ["run", "--rm", "--env", "COLOUR=blue", image, "e1", "sh", "-c", "echo $COLOUR"],
    ["run", "--rm", "--mount", bind, image, "e2", "cat", "/given/given"],
    ["run", "--rm", "--mount", bind, image, "e3", "touch", "/given/new"],
    ["run", "--rm", "--read-only", image, "e4", "touch", "/new"],
    ["run", "--rm", "--net-host", image, "e5", "ls", "/sys/class/net"],
    ["run", "--rm", "--cwd", "/bin", image, "e6", "pwd"],
    ["run", "--rm", "--snapshotter", "native", image, "e7", "cat", "/etc/passwd"],
  );
  assert.equal(outcomes[1]?.stdout, "from the host\n");
  assert.notEqual(outcomes[3]?.exitCode, 0);
});

test("run -t gives the container a terminal", async () => {
  const outputs: string[] = [];
  for (const daemon of [ours, theirs]) {
    const { output, exitCode } = await runInTerminal(
      [
        "ctr",
        "-a",
        daemon.address,
        "-n",
        namespace,
        "run",
        "--rm",
        "-t",
        image,
        "t1",
        "sh",
        "-c",
        waitForSize + "; exit 4",
      ],
      { columns: 91, rows: 27 },
    );
    outputs.push(`${output.trim()} ${exitCode}`);
  }
  assert.equal(outputs[0], outputs[1]);
  assert.equal(outputs[0], "27 91 4");
});

test("run -d leaves the container running; tasks are listed, executed in, paused, measured, killed and deleted", async () => {
  const outcomes = await parity(
    ["run", "-d", image, "d1", "sleep", "1000"],
    ["run", "-d", image, "d1", "sleep", "1000"],
    ["tasks", "exec", "--exec-id", "x1", "d1", "echo", "inside"],
    ["tasks", "exec", "--exec-id", "x2", "d1", "sh", "-c", "exit 5"],
    ["tasks", "exec", "--exec-id", "x3", "d1", "absent-program"],
    ["tasks", "exec", "--exec-id", "not--valid", "d1", "true"],
    ["tasks", "exec", "--exec-id", "x4", "absent", "true"],
    ["tasks", "pause", "d1"],
    ["tasks", "pause", "absent"],
    ["tasks", "resume", "d1"],
    ["tasks", "rm", "d1"],
    ["containers", "rm", "d1"],
    ["tasks", "kill", "--signal", "9", "absent"],
    ["tasks", "rm", "--force", "d1"],
    ["tasks", "ls", "-q"],
    ["containers", "rm", "d1"],
    ["containers", "ls", "-q"],
  );
  assert.equal(outcomes[2]?.stdout, "inside\n");
  assert.equal(outcomes[3]?.exitCode, 5);
});

test("tasks ls, ps and metrics show what runs", async () => {
  for (const daemon of [ours, theirs]) {
    const ctr = (...args: string[]) => daemon.ctr("-n", namespace, ...args);
    assert.equal((await ctr("run", "-d", image, "m1", "sleep", "1000")).exitCode, 0);
    const list = await ctr("tasks", "ls");
    const pid = /^m1\s+(\d+)\s+RUNNING$/m.exec(list.stdout)?.[1];
    assert.ok(pid !== undefined, list.stdout);
    assert.match((await readFile(`/proc/${pid}/cmdline`, "utf8")).replaceAll("\0", " "), /^sleep 1000/);
    assert.match((await ctr("tasks", "ps", "m1")).stdout, new RegExp(`^${pid}\\b`, "m"));
    const metrics = await ctr("tasks", "metrics", "m1");
    assert.match(metrics.stdout, /^m1\s/m);
    assert.match(metrics.stdout, /^(?:memory\.usage_in_bytes|memory\.current)\s+[1-9]\d*\s*$/m);
    assert.equal((await ctr("tasks", "rm", "--force", "m1")).exitCode, 0);
    assert.equal((await ctr("containers", "rm", "m1")).exitCode, 0);
  }
});

test("create, then tasks start gives output; attach waits for the end", async () => {
  const outcomes = await parity(
    ["containers", "create", image, "s1", "cat", "/etc/passwd"],
    ["tasks", "start", "s1"],
    ["containers", "rm", "s1"],
    ["containers", "create", image, "s2", "sleep", "1"],
    ["tasks", "start", "-d", "s2"],
    ["tasks", "attach", "s2"],
    ["tasks", "attach", "s2"],
    ["containers", "rm", "s2"],
  );
  assert.match(outcomes[1]?.stdout ?? "", /^root:/);
  assert.deepEqual([outcomes[5]?.exitCode, outcomes[5]?.stderr], [0, ""]);
});

test("exec -t gives a terminal", async () => {
  for (const daemon of [ours, theirs]) {
    assert.equal((await daemon.ctr("-n", namespace, "run", "-d", image, "xt", "sleep", "1000")).exitCode, 0);
    const { output } = await runInTerminal(
      [
        "ctr",
        "-a",
        daemon.address,
        "-n",
        namespace,
        "tasks",
        "exec",
        "-t",
        "--exec-id",
        "tty",
        "xt",
        "sh",
        "-c",
        waitForSize,
      ],
      { columns: 77, rows: 21 },
    );
    assert.equal(output.trim(), "21 77");
    await daemon.ctr("-n", namespace, "tasks", "rm", "--force", "xt");
    await daemon.ctr("-n", namespace, "containers", "rm", "xt");
  }
});

test("--log-uri file:// appends the output to a file", async () => {
  for (const [name, daemon] of Object.entries({ ours, theirs })) {
    const path = join(directory.path, `${name}.log`);
    const run = await daemon.ctr(
      "-n",
      namespace,
      "run",
      "-d",
      "--log-uri",
      `file://${path}`,
      image,
      "log",
      "echo",
      "logged",
    );
    assert.equal(run.exitCode, 0, run.stderr);
    await until(
      async () => (await readFileIfThere(path)) === "logged\n",
      () => "the output is not in the file",
    );
    await daemon.ctr("-n", namespace, "tasks", "rm", "--force", "log");
    await daemon.ctr("-n", namespace, "containers", "rm", "log");
  }
});

test("checkpoint says why it cannot be had where criu is missing", async () => {
  for (const daemon of [ours, theirs]) {
    assert.equal((await daemon.ctr("-n", namespace, "run", "-d", image, "cp", "sleep", "1000")).exitCode, 0);
    const refused = await daemon.ctr("-n", namespace, "tasks", "checkpoint", "cp");
    assert.notEqual(refused.exitCode, 0);
    assert.match(refused.stderr, /criu/);
    await daemon.ctr("-n", namespace, "tasks", "rm", "--force", "cp");
    await daemon.ctr("-n", namespace, "containers", "rm", "cp");
  }
});

test("events tell the life of a container in order", async () => {
  for (const daemon of [ours, theirs]) {
    await using events = await daemon.followEvents();
    const run = await daemon.ctr("-n", namespace, "run", "--rm", image, "ev", "true");
    assert.equal(run.exitCode, 0, run.stderr);
    await events.until((lines) => lines.some((line) => line.includes(" /containers/delete ")));
    const topics = events.lines
      .filter((line) => line.includes(` ${namespace} `))
      .map((line) => / (\/\S+) /.exec(line)?.[1])
      .filter((topic) => topic?.startsWith("/tasks/") || topic?.startsWith("/containers/"));
    assert.deepEqual(topics, [
      "/containers/create",
      "/tasks/create",
      "/tasks/start",
      "/tasks/exit",
      "/tasks/delete",
      "/containers/delete",
    ]);
  }
});

test("fields of options that are deprecated are told of once they are used, also when the process that saw it dies", async () => {
  const prefix = "io.containerd.deprecation/runc-options-task-api-";
  const told = async (): Promise<string[]> => {
    const { deprecations } = await createClient(Introspection, ours.transport).server({});
    return deprecations.map(({ id }) => id).filter((id) => id.startsWith(prefix));
  };
  assert.equal((await ours.ctr("-n", namespace, "containers", "create", image, "old")).exitCode, 0);
  assert.deepEqual(await told(), []);
  const options = {
    typeUrl: OptionsSchema.typeName,
    value: toBinary(OptionsSchema, create(OptionsSchema, { taskApiAddress: "unix:///absent", taskApiVersion: 3 })),
  };
  const request = { containerId: "old", runtimePath: "io.containerd.absent.v9", options };
  await assert.rejects(createClient(Tasks, ours.transport).create(request, { headers: clientHeaders(namespace) }));
  assert.deepEqual((await told()).toSorted(), [`${prefix}address`, `${prefix}version`]);
  await ours.kill9("tasks");
  assert.deepEqual((await told()).toSorted(), [`${prefix}address`, `${prefix}version`]);
  assert.equal((await ours.ctr("-n", namespace, "containers", "rm", "old")).exitCode, 0);
});
