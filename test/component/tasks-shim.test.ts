import assert from "node:assert/strict";
import { constants, existsSync } from "node:fs";
import { mkdir, open, readdir, readFile, readlink, symlink, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import test from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { execa } from "execa";
import { ErrorKind } from "#base/errors.ts";
import { OptionsSchema } from "#gen/containerd/runc/v1/options_pb.ts";
import { RuntimeInfoSchema, RuntimeRequestSchema } from "#gen/containerd/types/introspection_pb.ts";
import { Member } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { cgroupDirectories } from "#linux/cgroup.ts";
import { makeFifo } from "#linux/fifo.ts";
import { until } from "../kit/processes.ts";
import { lacksContainers, packAny, TasksRig } from "./tasks-rig.ts";

const skip = { skip: lacksContainers };

/** Tells whether a process runs; one that is dead and waits for its parent does not. */
async function isAlive(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => ") Z");
  return !/\) [ZX]/.test(stat);
}

test(
  "a killed shim takes its container with it: exit and deletion are told once, and the id is free",
  skip,
  async () => {
    await using rig = await TasksRig.start();
    const pid = await rig.run("one", ["sleep", "100"]);
    const wait = assert.rejects(rig.tasks.wait({ containerId: "one" }, rig.headers), {
      kind: ErrorKind.Unknown,
      message: "ttrpc: closed",
    });
    await rig.tasks.get({ containerId: "one" }, rig.headers);
    const [shim = 0] = await rig.shims();
    process.kill(shim, "SIGKILL");
    await wait;
    await rig.event(({ topic }) => topic === "/tasks/delete");
    await until(
      async () => !existsSync(rig.bundlePath("one")),
      () => "not in time: the bundle is gone",
      20_000,
    );
    await until(
      async () => !(await isAlive(pid)),
      () => "not in time: the container is dead",
      20_000,
    );
    assert.deepEqual(rig.topicsOf("one"), ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]);
    const [exit, deletion] = rig.events.slice(-2);
    assert.deepEqual([exit?.fields["id"], exit?.fields["pid"], exit?.fields["exitStatus"]], ["one", pid, 137]);
    assert.deepEqual([deletion?.fields["id"], deletion?.fields["exitStatus"]], ["", 137]);
    assert.match(exit?.messageId ?? "", new RegExp(`^task/${rig.namespace}/one/\\d+-\\d+/exit$`));
    await until(
      async () => (await rig.tasks.list({}, rig.headers)).tasks.length === 0,
      () => "not in time: the task is forgotten",
      20_000,
    );
    await rig.run("one", ["sleep", "100"]);
    await rig.remove("one");
  },
);

test("the end of a task is told even if the process is killed before it was heard", skip, async () => {
  await using rig = await TasksRig.start();
  await rig.run("one", ["sleep", "100"]);
  rig.refuseEvents = true;
  const [shim = 0] = await rig.shims();
  process.kill(shim, "SIGKILL");
  await until(
    () => Promise.resolve(rig.log.includes("events are not published yet")),
    () => "not in time: events were tried",
    20_000,
  );
  assert.equal(existsSync(rig.bundlePath("one")), true, "the bundle owes its events");
  await assert.rejects(rig.tasks.get({ containerId: "one" }, rig.headers), {
    kind: ErrorKind.NotFound,
    message: "not found",
  });
  await rig.endProcess("SIGKILL");
  rig.refuseEvents = false;
  await rig.startProcess();
  await rig.event(({ topic }) => topic === "/tasks/delete");
  await until(
    async () => !existsSync(rig.bundlePath("one")),
    () => "not in time: the bundle is gone",
    20_000,
  );
  // What the shim itself had to tell may have died with it.
  assert.deepEqual(rig.topicsOf("one").slice(-2), ["/tasks/exit", "/tasks/delete"]);
});

test("shims that died or were left behind while no process ran are cleared away", skip, async () => {
  await using rig = await TasksRig.start();
  const pid = await rig.run("killed", ["sleep", "100"]);
  const [shim = 0] = await rig.shims();
  await rig.endProcess("SIGKILL");
  process.kill(shim, "SIGKILL");

  const leaked = rig.bundlePath("leaked");
  await mkdir(`${leaked}/rootfs`, { recursive: true });
  // As a creation leaves them that was interrupted: the runtime writes down what it has made after the cgroups.
  const cgroupsPath = `/${rig.namespace}/leaked`;
  const cgroups = await cgroupDirectories(cgroupsPath);
  await Promise.all(cgroups.map((path) => mkdir(path, { recursive: true })));
  await writeFile(`${leaked}/config.json`, JSON.stringify({ linux: { cgroupsPath } }));
  makeFifo(`${leaked}/log`, 0o700);
  const grpcAddress = `${rig.directory}/g.sock`;
  const { stdout: address } = await execa(
    "containerd-shim-runc-v2",
    ["-namespace", rig.namespace, "-address", grpcAddress, "-id", "leaked", "start"],
    { cwd: leaked, input: "", env: { TTRPC_ADDRESS: `${grpcAddress}.ttrpc` } },
  );
  assert.equal((await rig.shims()).length, 1);
  // Its pause container may have been deleted a moment before.
  rig.addSandbox("leaked", "podsandbox");

  await rig.startProcess();
  assert.match(rig.log, /no shim listens at unix:\/\/\/run\/containerd\/s\/[0-9a-f]{64}/);
  await rig.event(({ topic, fields }) => topic === "/tasks/delete" && fields["containerId"] === "killed");
  await until(
    async () => (await readdir(dirname(leaked))).length === 0,
    () => "not in time: the bundles are gone",
    20_000,
  );
  await until(
    async () => !(await isAlive(pid)),
    () => "not in time: the container is dead",
    20_000,
  );
  await until(
    async () => (await rig.shims()).length === 0,
    () => "not in time: the leaked shim is gone",
    20_000,
  );
  assert.equal(existsSync(address.replace("unix://", "")), false, "its socket is gone too");
  assert.deepEqual(cgroups.filter(existsSync), []);
  assert.deepEqual(rig.topicsOf("leaked"), []);
});

test("what lies among the bundles and is none does no harm", skip, async () => {
  await using rig = await TasksRig.start();
  await rig.endProcess("SIGTERM");
  const namespace = rig.bundlePath("x").replace(/\/x$/, "");
  const precious = `${rig.directory}/precious`;
  await mkdir(precious);
  await writeFile(`${precious}/file`, "kept");
  await mkdir(namespace, { recursive: true });
  await symlink(precious, `${namespace}/link`);
  await symlink(precious, `${namespace}/../linked-namespace`);
  await writeFile(`${namespace}/file`, "");
  await mkdir(`${namespace}/bad name`);
  await mkdir(`${namespace}/.removed/rootfs`, { recursive: true });
  await mkdir(`${namespace}/empty`);
  await mkdir(`${namespace}/garbage`);
  await writeFile(`${namespace}/garbage/bootstrap.json`, "\u0000\u0001garbage");
  await mkdir(`${namespace}/lying`);
  await writeFile(`${namespace}/lying/bootstrap.json`, '{"version":3,"address":"unix:///no/such","protocol":"ttrpc"}');
  await mkdir(`${namespace}/work-link/rootfs`, { recursive: true });
  await symlink(precious, `${namespace}/work-link/work`);
  const work = `${rig.directory}/root/io.containerd.runtime.v2.task/${rig.namespace}`;
  await mkdir(`${work}/stray`, { recursive: true });
  await rig.startProcess();
  const left = ["bad name", "file", "link"];
  await until(
    async () => (await readdir(namespace)).sort().join() === left.join(),
    () => "not in time: bundles are cleared away",
    20_000,
  );
  assert.equal(await readFile(`${precious}/file`, "utf8"), "kept");
  assert.deepEqual(await readdir(work), []);
  await rig.run("one", ["sleep", "100"]);
  await rig.remove("one");
  rig.addContainer("link", { args: ["true"] });
  await assert.rejects(rig.tasks.create({ containerId: "link" }, rig.headers), { message: /file exists/ });
  assert.equal(await readFile(`${precious}/file`, "utf8"), "kept");
});

test("what a container has put out last waits for its client until the task is deleted", skip, async () => {
  await using rig = await TasksRig.start();
  const [stdout, stderr] = [`${rig.directory}/stdout`, `${rig.directory}/stderr`];
  makeFifo(stdout, 0o700);
  makeFifo(stderr, 0o700);
  rig.addContainer("one", { args: ["sh", "-c", "until [ -e /told ]; do sleep 0.1; done; echo last"] });
  const client = await open(stdout, constants.O_RDONLY | constants.O_NONBLOCK);
  await rig.tasks.create({ containerId: "one", ...rig.bindRootfs(), stdout, stderr }, rig.headers);
  await rig.tasks.start({ containerId: "one" }, rig.headers);
  await client.close();
  // Whoever takes up its tasks holds the pipe as its predecessor did.
  await rig.endProcess("SIGKILL");
  await rig.startProcess();
  const descriptorsOf = async (pid: number): Promise<string[]> => {
    const names = await readdir(`/proc/${pid}/fd`);
    return await Promise.all(names.map((name) => readlink(`/proc/${pid}/fd/${name}`).catch(() => "")));
  };
  const held = async (): Promise<number> => (await descriptorsOf(rig.pid)).filter((target) => target === stdout).length;
  await until(
    async () => (await held()) === 1,
    () => "the pipe is not held",
    20_000,
  );
  await writeFile(`${rig.rootfs}/told`, "");
  await rig.tasks.wait({ containerId: "one" }, rig.headers);
  const [shim] = await rig.shims();
  await until(
    async () => !(await descriptorsOf(shim ?? 0)).includes(stdout),
    () => "the shim has not let its pipe go",
    20_000,
  );
  const next = await open(stdout, constants.O_RDONLY | constants.O_NONBLOCK);
  const { buffer, bytesRead } = await next.read(Buffer.alloc(20), 0, 20);
  await next.close();
  assert.equal(buffer.toString("utf8", 0, bytesRead), "last\n");
  await rig.tasks.delete({ containerId: "one" }, rig.headers);
  assert.equal(await held(), 0);
});

test("containers of a group share a shim, and one may go before the other", skip, async () => {
  await using rig = await TasksRig.start();
  const annotations = { "io.kubernetes.cri.sandbox-id": "pod" };
  await rig.run("first", ["sleep", "100"], { annotations });
  await rig.run("second", ["sleep", "100"], { annotations });
  assert.equal((await rig.shims()).length, 1);
  await rig.remove("first");
  await rig.run("first", ["sleep", "100"], { annotations });
  await rig.remove("second");
  assert.equal((await rig.tasks.get({ containerId: "first" }, rig.headers)).process?.id, "first");
  await rig.remove("first");
  await until(
    async () => (await rig.shims()).length === 0,
    () => "not in time: the shim is gone",
    20_000,
  );
});

test("the bundle is laid out as containerd does", skip, async () => {
  await using rig = await TasksRig.start();
  rig.addContainer("one", { args: ["true"] });
  await rig.tasks.create({ containerId: "one", ...rig.bindRootfs() }, rig.headers);
  const files = await readdir(rig.bundlePath("one"));
  for (const name of ["bootstrap.json", "config.json", "init.pid", "log", "rootfs", "shim-binary-path", "work"]) {
    assert.ok(files.includes(name), `${name} is in the bundle`);
  }
  const { stdout } = await execa("stat", ["-c", "%a", rig.bundlePath("one"), `${rig.bundlePath("one")}/rootfs/..`]);
  assert.equal(stdout, "700\n700");
  assert.deepEqual(
    await readFile(`${rig.bundlePath("one")}/config.json`),
    Buffer.from(rig.container("one")?.spec?.value ?? []),
  );
  await rig.tasks.delete({ containerId: "one" }, rig.headers);
});

test("the plugins are those that clients look for", skip, async () => {
  await using rig = await TasksRig.start();
  const { plugins } = await createClient(Member, rig.transport).describe({});
  assert.deepEqual(
    plugins.map(({ type, id, initErr }) => [`${type}.${id}`, initErr]),
    [
      ["io.containerd.internal.v1.opt", undefined],
      ["io.containerd.shim.v1.manager", undefined],
      ["io.containerd.runtime.v2.task", undefined],
      ["io.containerd.monitor.task.v1.cgroups", undefined],
      ["io.containerd.service.v1.tasks-service", undefined],
      ["io.containerd.monitor.container.v1.restart", undefined],
      ["io.containerd.grpc.v1.tasks", undefined],
      ["io.containerd.sandbox.controller.v1.shim", undefined],
      ["io.containerd.podsandbox.controller.v1.podsandbox", undefined],
      ["io.containerd.grpc.v1.sandbox-controllers", undefined],
    ],
  );
  const restart = plugins.find(({ id }) => id === "restart");
  assert.deepEqual(restart?.capabilities, ["no", "always", "on-failure", "unless-stopped"]);
  assert.deepEqual(plugins.find(({ id }) => id === "opt")?.exports, { path: `${rig.directory}/opt` });
  const runtime = plugins.find(({ id }) => id === "task");
  assert.equal(runtime?.platforms.length, 1);
  assert.deepEqual(runtime?.exports, { "log-uri-schemes": "fifo,binary,binary-v2,file" });
});

test("the runtime tells its version and what the OCI runtime below it can do", skip, async () => {
  await using rig = await TasksRig.start();
  const member = createClient(Member, rig.transport);
  const plugin = { type: "io.containerd.runtime.v2", id: "task" };
  const ask = (runtimePath: string) =>
    member.inspect({ ...plugin, options: packAny(RuntimeRequestSchema, { runtimePath }) });

  const printed = toBinary(
    RuntimeInfoSchema,
    create(RuntimeInfoSchema, {
      name: "io.containerd.fake.v1",
      version: { version: "9.8.7", revision: "abc" },
      features: { typeUrl: "features", value: Buffer.from('{"ociVersionMax":"1.2.0"}') },
    }),
  );
  const told = `${rig.directory}/containerd-shim-fake-v1`;
  await writeFile(`${told}.info`, printed);
  await writeFile(told, `#!/bin/sh\n[ "$1" = -info ] && exec cat '${told}.info'\nexit 1\n`, { mode: 0o755 });
  const { extra } = await ask(told);
  assert.deepEqual(
    [extra?.typeUrl, Buffer.from(extra?.value ?? [])],
    ["containerd.types.RuntimeInfo", Buffer.from(printed)],
  );

  await writeFile(told, "#!/bin/sh\necho nothing here >&2\nexit 3\n", { mode: 0o755 });
  await assert.rejects(ask(told), {
    kind: ErrorKind.Unknown,
    message: `failed to run [${told} -info]: exit status 3 (stderr: "nothing here\\n")`,
  });
  await assert.rejects(ask("io.containerd.nowhere.v9"), {
    message: /^failed to resolve runtime path: runtime "io.containerd.nowhere.v9" binary not installed/,
  });
  await assert.rejects(member.inspect({ ...plugin, options: packAny(OptionsSchema, {}) }), {
    kind: ErrorKind.NotImplemented,
  });
  await assert.rejects(member.inspect({ type: plugin.type, id: "other", options: packAny(OptionsSchema, {}) }), {
    kind: ErrorKind.NotImplemented,
    message: "plugin does not provided extra information: not implemented",
  });
});

test("programs that were installed from images are found, and find their libraries", skip, async () => {
  await using rig = await TasksRig.start();
  // A shim that tells its environment as the name of its runtime: RuntimeInfo { name: 100 bytes at most }.
  const script = '#!/bin/sh\nname="$LD_LIBRARY_PATH"\nprintf "\\\\012\\\\$(printf %03o ${#name})%s" "$name"\n';
  await writeFile(`${rig.directory}/opt/bin/containerd-shim-installed-v1`, script, { mode: 0o755 });
  const { extra } = await createClient(Member, rig.transport).inspect({
    type: "io.containerd.runtime.v2",
    id: "task",
    options: packAny(RuntimeRequestSchema, { runtimePath: "io.containerd.installed.v1" }),
  });
  const { name } = fromBinary(RuntimeInfoSchema, extra?.value ?? new Uint8Array());
  assert.equal(name.split(":")[0], `${rig.directory}/opt/lib`);
});

test("a client that gives up a creation leaves nothing behind", skip, async () => {
  await using rig = await TasksRig.start();
  const slow = `${rig.directory}/slow-runc`;
  const wait = `touch ${slow}.waits; while ! [ -e ${slow}.go ]; do sleep 0.02; done`;
  await writeFile(slow, `#!/bin/sh\ncase "$*" in *" create "*) ${wait} ;; esac\nexec runc "$@"\n`, { mode: 0o755 });
  rig.addContainer("one", { args: ["sleep", "100"] });
  const giveUp = new AbortController();
  const refused = assert.rejects(
    rig.tasks.create(
      { containerId: "one", ...rig.bindRootfs(), options: packAny(OptionsSchema, { binaryName: slow }) },
      { ...rig.headers, signal: giveUp.signal },
    ),
    { kind: ErrorKind.Canceled },
  );
  await until(
    () => existsSync(`${slow}.waits`),
    () => "not in time: runc is asked",
    20_000,
  );
  giveUp.abort();
  await refused;
  await writeFile(`${slow}.go`, "");
  await until(
    async () => !existsSync(rig.bundlePath("one")),
    () => "not in time: nothing is left",
    20_000,
  );
  await until(
    async () => (await rig.shims()).length === 0,
    () => "not in time: the shim is gone",
    20_000,
  );
  await rig.run("one", ["sleep", "100"]);
  await rig.remove("one");
});
