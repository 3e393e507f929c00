import assert from "node:assert/strict";
import { access, chmod, mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { create, fromBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { createClient } from "@connectrpc/connect";
import { execa } from "execa";
import { ErrorKind } from "#base/errors.ts";
import { OptionsSchema } from "#gen/containerd/runc/v1/options_pb.ts";
import { BootstrapParamsSchema } from "#gen/containerd/runtime/bootstrap/v1/bootstrap_pb.ts";
import { Member } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { makeFifo } from "#linux/fifo.ts";
import type { FakeShimBehaviour } from "./tasks-fake-shim.ts";
import { lacksContainers, packAny, TasksRig } from "./tasks-rig.ts";

const skip = { skip: lacksContainers };
const fakeShim = fileURLToPath(new URL("./tasks-fake-shim.ts", import.meta.url));

interface DiaryEntry {
  readonly action: "start" | "delete" | "shutdown";
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  readonly input: string;
}

/** Puts a container on record whose runtime is a fake shim. @returns what the shim was asked so far. */
async function addFake(
  rig: TasksRig,
  id: string,
  wish: Partial<FakeShimBehaviour>,
  container: Partial<Parameters<TasksRig["addContainer"]>[1]> = {},
): Promise<() => Promise<DiaryEntry[]>> {
  const behaviour: FakeShimBehaviour = {
    diary: `${rig.directory}/${id}.diary`,
    socket: `${rig.directory}/${id}.sock`,
    reply: "json",
    servedVersion: 3,
    ...wish,
  };
  const runtime = `${rig.directory}/shim-${id}`;
  await writeFile(runtime, `#!/bin/sh\nexec ${process.execPath} ${fakeShim} '${JSON.stringify(behaviour)}' "$@"\n`);
  await chmod(runtime, 0o755);
  rig.addContainer(id, { args: ["true"], runtime, ...container });
  return async () => {
    const diary = await readFile(behaviour.diary, "utf8").catch(() => "");
    return diary
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as DiaryEntry);
  };
}

/** The name of the binary in runtime options that a shim was given. */
function decodeOptions(input: Uint8Array | undefined): string {
  return fromBinary(OptionsSchema, fromBinary(AnySchema, input ?? new Uint8Array()).value).binaryName;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** Waits until something holds that no event tells. */
async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!(await holds())) {
    assert.ok(performance.now() < deadline, `waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Tells whether a process runs; one that is dead and waits for its parent does not. */
async function isAlive(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => ") Z");
  return !/\) [ZX]/.test(stat);
}

test("a shim may say in three ways where it listens, and speak an older service than it says", skip, async () => {
  await using rig = await TasksRig.start();
  const forms: readonly Partial<FakeShimBehaviour>[] = [
    { reply: "plain", servedVersion: 2 },
    { reply: "json", servedVersion: 3 },
    { reply: "message", servedVersion: 3 },
    { reply: "json", servedVersion: 2, saidVersion: 3 },
  ];
  for (const [index, form] of forms.entries()) {
    const id = `f${index}`;
    await addFake(rig, id, form);
    await rig.tasks.create({ containerId: id }, rig.headers);
    const recorded = JSON.parse(await readFile(`${rig.bundlePath(id)}/bootstrap.json`, "utf8")) as object;
    assert.deepEqual(recorded, {
      version: form.saidVersion ?? form.servedVersion,
      address: `unix://${rig.directory}/${id}.sock`,
      protocol: "ttrpc",
    });
  }
  await rig.endProcess("SIGKILL");
  await rig.startProcess();
  for (const index of forms.keys()) {
    assert.equal((await rig.tasks.get({ containerId: `f${index}` }, rig.headers)).process?.id, `f${index}`);
    await rig.tasks.delete({ containerId: `f${index}` }, rig.headers);
  }
  assert.deepEqual(rig.events, []);
});

test("a shim that can't be used is refused in containerd's words, and nothing is left", skip, async () => {
  await using rig = await TasksRig.start();
  const cases: readonly (readonly [Partial<FakeShimBehaviour>, object])[] = [
    [
      { saidVersion: 9 },
      {
        kind: ErrorKind.NotImplemented,
        message: "failed to start shim: start failed: unsupported shim version (9): not implemented",
      },
    ],
    [
      { startFailure: "no such hypervisor" },
      {
        kind: ErrorKind.Unknown,
        message: "failed to start shim: start failed: no such hypervisor: exit status 1",
      },
    ],
    [
      { reply: "nothing" },
      {
        kind: ErrorKind.Unknown,
        message: "failed to start shim: start failed: the shim did not say where it listens",
      },
    ],
  ];
  for (const [index, [behaviour, expected]] of cases.entries()) {
    const id = `f${index}`;
    await addFake(rig, id, behaviour);
    await assert.rejects(rig.tasks.create({ containerId: id }, rig.headers), expected);
    assert.equal(await exists(rig.bundlePath(id)), false);
  }
});

test("a shim is started with containerd's arguments, in its bundle", skip, async () => {
  await using rig = await TasksRig.start({ logLevel: "debug" });
  const diary = await addFake(rig, "one", {});
  await rig.tasks.create({ containerId: "one" }, rig.headers);
  const [start] = await diary();
  const grpcAddress = `${rig.directory}/g.sock`;
  assert.deepEqual(
    start?.args.map((arg) => (arg.endsWith("/deploy/flotilla") ? "DAEMON" : arg)),
    [
      "-namespace",
      rig.namespace,
      "-address",
      grpcAddress,
      "-publish-binary",
      "DAEMON",
      "-id",
      "one",
      "-debug",
      "start",
    ],
  );
  assert.equal(start?.cwd, rig.bundlePath("one"));
  const { GOMAXPROCS, MAX_SHIM_VERSION, TTRPC_ADDRESS, GRPC_ADDRESS, NAMESPACE } = start?.env ?? {};
  assert.deepEqual(
    [GOMAXPROCS, MAX_SHIM_VERSION, TTRPC_ADDRESS, GRPC_ADDRESS, NAMESPACE],
    ["2", "2", `${grpcAddress}.ttrpc`, grpcAddress, rig.namespace],
  );
  await rig.tasks.delete({ containerId: "one" }, rig.headers);
});

test("each shim gets the standard input of its age", skip, async () => {
  await using rig = await TasksRig.start();
  const options = packAny(OptionsSchema, { binaryName: "crun" });
  const released = (version: string): string => `shim:\n  Version:  ${version}\n  Revision: x\n  Go version: go1\n\n`;
  const inputs = async (id: string, wish: Partial<FakeShimBehaviour>, rounds = 1): Promise<Buffer[]> => {
    const diary = await addFake(rig, id, wish, { runtimeOptions: options });
    for (let round = 0; round < rounds; round += 1) {
      await rig.tasks.create({ containerId: id }, rig.headers);
      await rig.tasks.delete({ containerId: id }, rig.headers);
    }
    return (await diary()).filter(({ action }) => action === "start").map(({ input }) => Buffer.from(input, "base64"));
  };
  for (const version of ["1.6.20~ds1", "v2.2.1"]) {
    const [input] = await inputs(`v${version.replaceAll(/[^0-9]/g, "")}`, { versionText: released(version) });
    assert.deepEqual(decodeOptions(input), "crun", version);
  }
  const [input] = await inputs("new", { versionText: released("v2.3.4") });
  const parameters = fromBinary(BootstrapParamsSchema, input ?? Buffer.alloc(0));
  assert.deepEqual(
    [parameters.instanceId, parameters.namespace, parameters.containerdGrpcAddress, parameters.socketDir],
    ["new", rig.namespace, `${rig.directory}/g.sock`, "/run/containerd/s"],
  );
  assert.equal(parameters.extensions[0]?.value?.typeUrl, OptionsSchema.typeName);
  const unknown = await inputs("unknown", { refusesParameters: true }, 2);
  assert.equal(unknown.length, 3, "it is refused once, taken once, and remembered");
  assert.deepEqual(unknown.slice(1).map(decodeOptions), ["crun", "crun"]);
});

test("options of the task win over those of the container", skip, async () => {
  await using rig = await TasksRig.start();
  const diary = await addFake(
    rig,
    "one",
    { versionText: "shim:\n  Version: 1.7.0\n  Revision: x\n" },
    {
      runtimeOptions: packAny(OptionsSchema, { binaryName: "crun" }),
    },
  );
  const mine = packAny(OptionsSchema, { binaryName: "runc" });
  for (const options of [mine, create(AnySchema, { typeUrl: OptionsSchema.typeName })]) {
    await rig.tasks.create({ containerId: "one", options }, rig.headers);
    await rig.tasks.delete({ containerId: "one" }, rig.headers);
  }
  const started = (await diary()).filter(({ action }) => action === "start");
  assert.deepEqual(
    started.map(({ input }) => decodeOptions(Buffer.from(input, "base64"))),
    ["runc", "crun"],
  );
});

test(
  "the binary of a foreign shim of version 2 clears up after each deletion, that of a newer one does not",
  skip,
  async () => {
    await using rig = await TasksRig.start();
    for (const servedVersion of [2, 3] as const) {
      const id = `v${servedVersion}`;
      const diary = await addFake(rig, id, { servedVersion });
      await rig.tasks.create({ containerId: id }, rig.headers);
      await rig.tasks.delete({ containerId: id }, rig.headers);
      await until("the bundle is gone", async () => !(await exists(rig.bundlePath(id))));
      assert.deepEqual(
        (await diary()).map(({ action }) => action),
        servedVersion === 2 ? ["start", "shutdown", "delete"] : ["start", "shutdown"],
      );
    }
  },
);

test("a container of a sandbox joins the sandbox's shim, which stays", skip, async () => {
  await using rig = await TasksRig.start();
  const diary = await addFake(rig, "pod", {});
  await rig.tasks.create({ containerId: "pod" }, rig.headers);
  rig.addSandbox("pod");
  rig.addContainer("member", { args: ["true"], sandbox: "pod" });
  await rig.tasks.create({ containerId: "member" }, rig.headers);
  assert.equal(await readFile(`${rig.bundlePath("member")}/sandbox`, "utf8"), "pod");
  await rig.endProcess("SIGKILL");
  await rig.startProcess();
  await rig.tasks.delete({ containerId: "member" }, rig.headers);
  await until("the bundle is gone", async () => !(await exists(rig.bundlePath("member"))));
  assert.deepEqual(
    (await diary()).map(({ action }) => action),
    ["start"],
  );
  assert.equal((await rig.tasks.get({ containerId: "pod" }, rig.headers)).process?.id, "pod");
  await rig.tasks.delete({ containerId: "pod" }, rig.headers);
  rig.addContainer("astray", { args: ["true"], sandbox: "../pod" });
  rig.addSandbox("../pod");
  await assert.rejects(rig.tasks.create({ containerId: "astray" }, rig.headers), { kind: ErrorKind.InvalidArgument });
});

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
    await until("the bundle is gone", async () => !(await exists(rig.bundlePath("one"))));
    await until("the container is dead", async () => !(await isAlive(pid)));
    assert.deepEqual(rig.topicsOf("one"), ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"]);
    const [exit, deletion] = rig.events.slice(-2);
    assert.deepEqual([exit?.fields["id"], exit?.fields["pid"], exit?.fields["exitStatus"]], ["one", pid, 137]);
    assert.deepEqual([deletion?.fields["id"], deletion?.fields["exitStatus"]], ["", 137]);
    assert.match(exit?.messageId ?? "", new RegExp(`^task/${rig.namespace}/one/\\d+-\\d+/exit$`));
    await until("the task is forgotten", async () => (await rig.tasks.list({}, rig.headers)).tasks.length === 0);
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
  await until("events were tried", () => Promise.resolve(rig.log.includes("events are not published yet")));
  assert.equal(await exists(rig.bundlePath("one")), true, "the bundle owes its events");
  await assert.rejects(rig.tasks.get({ containerId: "one" }, rig.headers), {
    kind: ErrorKind.NotFound,
    message: "not found",
  });
  await rig.endProcess("SIGKILL");
  rig.refuseEvents = false;
  await rig.startProcess();
  await rig.event(({ topic }) => topic === "/tasks/delete");
  await until("the bundle is gone", async () => !(await exists(rig.bundlePath("one"))));
  assert.deepEqual(rig.topicsOf("one").slice(2), ["/tasks/exit", "/tasks/delete"]);
});

test("shims that died or were left behind while no process ran are cleared away", skip, async () => {
  await using rig = await TasksRig.start();
  const pid = await rig.run("killed", ["sleep", "100"]);
  const [shim = 0] = await rig.shims();
  await rig.endProcess("SIGKILL");
  process.kill(shim, "SIGKILL");

  const leaked = rig.bundlePath("leaked");
  await mkdir(`${leaked}/rootfs`, { recursive: true });
  await writeFile(`${leaked}/config.json`, "{}");
  makeFifo(`${leaked}/log`, 0o700);
  const grpcAddress = `${rig.directory}/g.sock`;
  const { stdout: address } = await execa(
    "containerd-shim-runc-v2",
    ["-namespace", rig.namespace, "-address", grpcAddress, "-id", "leaked", "start"],
    { cwd: leaked, input: "", env: { TTRPC_ADDRESS: `${grpcAddress}.ttrpc` } },
  );
  assert.equal((await rig.shims()).length, 1);

  await rig.startProcess();
  await rig.event(({ topic, fields }) => topic === "/tasks/delete" && fields["containerId"] === "killed");
  await until("the bundles are gone", async () => (await readdir(dirname(leaked))).length === 0);
  await until("the container is dead", async () => !(await isAlive(pid)));
  await until("the leaked shim is gone", async () => (await rig.shims()).length === 0);
  assert.equal(await exists(address.replace("unix://", "")), false, "its socket is gone too");
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
  await until("bundles are cleared away", async () => (await readdir(namespace)).sort().join() === left.join());
  assert.equal(await readFile(`${precious}/file`, "utf8"), "kept");
  assert.deepEqual(await readdir(work), []);
  await rig.run("one", ["sleep", "100"]);
  await rig.remove("one");
  rig.addContainer("link", { args: ["true"] });
  await assert.rejects(rig.tasks.create({ containerId: "link" }, rig.headers), { message: /file exists/ });
  assert.equal(await readFile(`${precious}/file`, "utf8"), "kept");
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
  await until("the shim is gone", async () => (await rig.shims()).length === 0);
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
      ["io.containerd.shim.v1.manager", undefined],
      ["io.containerd.runtime.v2.task", undefined],
      ["io.containerd.monitor.task.v1.cgroups", undefined],
      ["io.containerd.service.v1.tasks-service", undefined],
      ["io.containerd.grpc.v1.tasks", undefined],
    ],
  );
  const runtime = plugins.find(({ id }) => id === "task");
  assert.equal(runtime?.platforms.length, 1);
  assert.deepEqual(runtime?.exports, { "log-uri-schemes": "fifo,binary,binary-v2,file" });
});

test("a client that gives up a creation leaves nothing behind", skip, async () => {
  await using rig = await TasksRig.start();
  rig.addContainer("one", { args: ["sleep", "100"] });
  const giveUp = new AbortController();
  const created = rig.tasks.create(
    { containerId: "one", ...rig.bindRootfs() },
    { ...rig.headers, signal: giveUp.signal },
  );
  await until("the shim runs", async () => (await rig.shims()).length > 0);
  giveUp.abort();
  await assert.rejects(created);
  await until("nothing is left", async () => !(await exists(rig.bundlePath("one"))));
  await until("the shim is gone", async () => (await rig.shims()).length === 0);
  await rig.run("one", ["sleep", "100"]);
  await rig.remove("one");
});
