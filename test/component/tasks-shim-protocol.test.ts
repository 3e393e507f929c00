import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { chmod, mkdir, readFile, rename, rmdir, writeFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { create, fromBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { ErrorKind } from "#base/errors.ts";
import { OptionsSchema } from "#gen/containerd/runc/v1/options_pb.ts";
import { BootstrapParamsSchema } from "#gen/containerd/runtime/bootstrap/v1/bootstrap_pb.ts";
import { Tasks } from "#gen/containerd/services/tasks/v1/tasks_pb.ts";
import { until } from "../kit/processes.ts";
import { cutting } from "./tasks-cut.ts";
import type { FakeShimBehaviour } from "./tasks-fake-shim.ts";
import { lacksContainers, packAny, TasksRig } from "./tasks-rig.ts";

const fakeShim = fileURLToPath(new URL("./tasks-fake-shim.ts", import.meta.url));

interface DiaryEntry {
  readonly action: "start" | "checkpoint" | "creating" | "created" | "killed" | "deleted" | "delete" | "shutdown";
  readonly args: readonly string[];
  readonly cwd: string;
  readonly env: Readonly<Record<string, string>>;
  readonly input: string;
}

/** Puts a container on record whose runtime is a fake shim, which prints the given text for `-v`. @returns what the shim was asked so far. */
async function addFake(
  rig: TasksRig,
  id: string,
  { versionText = "", ...wish }: Partial<FakeShimBehaviour> & { readonly versionText?: string },
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
  const script = [
    "#!/bin/sh",
    "for last; do :; done",
    'case "$last" in',
    `-v) printf '%s' '${versionText}' ;;`,
    // DeleteResponse { pid: 42, exit_status: 137 }
    `delete) echo '{"action":"delete"}' >> '${behaviour.diary}'; rm '${behaviour.diary}.fail' 2> /dev/null && exit 1; printf '\\010\\052\\020\\211\\001' ;;`,
    `*) exec ${process.execPath} ${fakeShim} '${JSON.stringify(behaviour)}' "$@" ;;`,
    "esac",
    "",
  ];
  await writeFile(runtime, script.join("\n"));
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

describe("shims", { skip: lacksContainers }, () => {
  let rig: TasksRig;
  before(async () => {
    rig = await TasksRig.start();
  });
  after(async () => {
    await rig?.[Symbol.asyncDispose]();
  });

  test("a shim may say in three ways where it listens, and speak an older service than it says", async () => {
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
    assert.deepEqual(rig.topicsOf("f0"), []);
  });

  test("a shim that can't be used is refused in containerd's words, and nothing is left", async () => {
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
      const id = `bad${index}`;
      await addFake(rig, id, behaviour);
      await assert.rejects(rig.tasks.create({ containerId: id }, rig.headers), expected);
      assert.equal(existsSync(rig.bundlePath(id)), false);
    }
  });

  test("who asks meanwhile about a container whose creation is given up is told when it is undone", async () => {
    const diary = await addFake(rig, "slow", { createMs: 1_000 });
    const giveUp = new AbortController();
    const given = assert.rejects(rig.tasks.create({ containerId: "slow" }, { ...rig.headers, signal: giveUp.signal }));
    await until(
      async () => (await diary()).some(({ action }) => action === "creating"),
      () => "nothing is created",
      20_000,
    );
    giveUp.abort();
    await given;
    await assert.rejects(rig.tasks.kill({ containerId: "slow", signal: 9 }, rig.headers), {
      kind: ErrorKind.NotFound,
      message: "task slow not found",
    });
    assert.equal(existsSync(rig.bundlePath("slow")), false);
    assert.deepEqual(
      (await diary()).map(({ action }) => action),
      ["start", "creating", "created", "killed", "deleted", "shutdown", "delete"],
    );
  });

  test("a checkpoint whose process dies is made once, or ends with an error where nobody knows", async () => {
    await using ways = new AsyncDisposableStack();
    const cut = cutting(rig, Tasks, (tasks) => tasks.list({}, rig.headers), ways);
    const diary = await addFake(rig, "kept", { checkpointMs: 500 });
    const checkpoints = async (): Promise<number> =>
      (await diary()).filter(({ action }) => action === "checkpoint").length;
    await rig.tasks.create({ containerId: "kept" }, rig.headers);
    const { descriptors } = await cut((tasks) => tasks.checkpoint({ containerId: "kept" }, rig.headers));
    assert.equal(descriptors.length, 2);
    assert.equal(await checkpoints(), 1);
    const amid = assert.rejects(rig.tasks.checkpoint({ containerId: "kept" }, rig.headers), {
      kind: ErrorKind.Unavailable,
      message: /^the process died that knew whether task kept was checkpointed/,
    });
    await until(
      async () => (await checkpoints()) === 2,
      () => "nothing is checkpointed",
    );
    await rig.endProcess("SIGKILL");
    await rig.startProcess();
    await amid;
    assert.equal(await checkpoints(), 2);
    await rig.tasks.delete({ containerId: "kept" }, rig.headers);
  });

  test("a shim is started with containerd's arguments, in its bundle", async () => {
    const diary = await addFake(rig, "started", {});
    await rig.tasks.create({ containerId: "started" }, rig.headers);
    const [start] = await diary();
    const grpcAddress = `${rig.directory}/g.sock`;
    assert.deepEqual(
      start?.args.map((arg) => (arg.endsWith("/deploy/flotilla") ? "DAEMON" : arg)),
      ["-namespace", rig.namespace, "-address", grpcAddress, "-publish-binary", "DAEMON", "-id", "started", "start"],
    );
    assert.equal(start?.cwd, rig.bundlePath("started"));
    const { GOMAXPROCS, MAX_SHIM_VERSION, TTRPC_ADDRESS, GRPC_ADDRESS, NAMESPACE } = start?.env ?? {};
    assert.deepEqual(
      [GOMAXPROCS, MAX_SHIM_VERSION, TTRPC_ADDRESS, GRPC_ADDRESS, NAMESPACE],
      ["2", "2", `${grpcAddress}.ttrpc`, grpcAddress, rig.namespace],
    );
    await rig.tasks.delete({ containerId: "started" }, rig.headers);
  });

  test("each shim gets the standard input of its age", async () => {
    const options = packAny(OptionsSchema, { binaryName: "crun" });
    const released = (version: string): string => `shim:\n  Version:  ${version}\n  Revision: x\n  Go version: go1\n\n`;
    const inputs = async (id: string, wish: Parameters<typeof addFake>[2], rounds = 1): Promise<Buffer[]> => {
      const diary = await addFake(rig, id, wish, { runtimeOptions: options });
      for (let round = 0; round < rounds; round += 1) {
        await rig.tasks.create({ containerId: id }, rig.headers);
        await rig.tasks.delete({ containerId: id }, rig.headers);
      }
      return (await diary())
        .filter(({ action }) => action === "start")
        .map(({ input }) => Buffer.from(input, "base64"));
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

  test("options of the task win over those of the container", async () => {
    const diary = await addFake(
      rig,
      "chosen",
      { versionText: "shim:\n  Version: 1.7.0\n  Revision: x\n" },
      {
        runtimeOptions: packAny(OptionsSchema, { binaryName: "crun" }),
      },
    );
    const mine = packAny(OptionsSchema, { binaryName: "runc" });
    for (const options of [mine, create(AnySchema, { typeUrl: OptionsSchema.typeName })]) {
      await rig.tasks.create({ containerId: "chosen", options }, rig.headers);
      await rig.tasks.delete({ containerId: "chosen" }, rig.headers);
    }
    const started = (await diary()).filter(({ action }) => action === "start");
    assert.deepEqual(
      started.map(({ input }) => decodeOptions(Buffer.from(input, "base64"))),
      ["runc", "crun"],
    );
  });

  test("the binary of a foreign shim of version 2 clears up after each deletion, that of a newer one does not", async () => {
    for (const servedVersion of [2, 3] as const) {
      const id = `v${servedVersion}`;
      const diary = await addFake(rig, id, { servedVersion });
      await rig.tasks.create({ containerId: id }, rig.headers);
      await rig.tasks.delete({ containerId: id }, rig.headers);
      await until(
        async () => !existsSync(rig.bundlePath(id)),
        () => "not in time: the bundle is gone",
        20_000,
      );
      assert.deepEqual(
        (await diary()).map(({ action }) => action),
        servedVersion === 2 ? ["start", "shutdown", "delete"] : ["start", "shutdown"],
      );
    }
  });

  test("a bundle of which nobody can tell where its shim listens is left alone, with a line in the log", async () => {
    const diary = await addFake(rig, "unreadable", {});
    await rig.tasks.create({ containerId: "unreadable" }, rig.headers);
    const endpointFile = `${rig.bundlePath("unreadable")}/bootstrap.json`;
    await rename(endpointFile, `${endpointFile}.kept`);
    await mkdir(endpointFile);
    await rig.endProcess("SIGKILL");
    await rig.startProcess();
    assert.deepEqual((await rig.tasks.list({}, rig.headers)).tasks, []);
    assert.match(rig.log, /task is not found again; left alone/);
    await rmdir(endpointFile);
    await rename(`${endpointFile}.kept`, endpointFile);
    await rig.endProcess("SIGKILL");
    await rig.startProcess();
    assert.equal((await rig.tasks.get({ containerId: "unreadable" }, rig.headers)).process?.id, "unreadable");
    await rig.tasks.delete({ containerId: "unreadable" }, rig.headers);
    await until(
      () => !existsSync(rig.bundlePath("unreadable")),
      () => "not in time: the bundle is gone",
      20_000,
    );
    assert.deepEqual(
      (await diary()).map(({ action }) => action),
      ["start", "shutdown"],
      "nobody cleaned up after a shim that lived",
    );
  });

  test("after a shim that dies its program clears up for each container that it served", async () => {
    const diary = await addFake(rig, "crowd", {});
    const { pid } = await rig.tasks.create({ containerId: "crowd" }, rig.headers);
    rig.addSandbox("crowd");
    rig.addContainer("guest", { args: ["true"], sandbox: "crowd" });
    await rig.tasks.create({ containerId: "guest" }, rig.headers);
    await writeFile(`${rig.directory}/crowd.diary.fail`, "");
    process.kill(pid, "SIGKILL");
    await until(
      () => !existsSync(rig.bundlePath("crowd")) && !existsSync(rig.bundlePath("guest")),
      () => "not in time: the bundles are gone",
      20_000,
    );
    assert.deepEqual(
      (await diary()).map(({ action }) => action),
      ["start", "delete", "delete", "delete"],
      "once more where it failed",
    );
  });

  test("what a shim that stays has made of a container and does not know is cleared away by its program", async () => {
    const diary = await addFake(rig, "host", {});
    await rig.tasks.create({ containerId: "host" }, rig.headers);
    rig.addSandbox("host");
    rig.addContainer("stillborn", { args: ["true"], sandbox: "host" });
    await assert.rejects(rig.tasks.create({ containerId: "stillborn" }, rig.headers), {
      message: /^failed to create shim task: made, and then lost/,
    });
    assert.deepEqual(
      (await diary()).map(({ action }) => action),
      ["start", "delete"],
    );
    assert.equal((await rig.tasks.get({ containerId: "host" }, rig.headers)).process?.id, "host");
    await rig.tasks.delete({ containerId: "host" }, rig.headers);
  });

  test("a shim that dies while it makes a container of a sandbox leaves nothing of it", async () => {
    const diary = await addFake(rig, "frail", { createMs: 300 });
    const { pid } = await rig.tasks.create({ containerId: "frail" }, rig.headers);
    rig.addSandbox("frail");
    rig.addContainer("unborn", { args: ["true"], sandbox: "frail" });
    const creating = assert.rejects(rig.tasks.create({ containerId: "unborn" }, rig.headers));
    await until(
      async () => (await diary()).filter(({ action }) => action === "creating").length === 2,
      () => "not in time: the container is being made",
      20_000,
    );
    process.kill(pid, "SIGKILL");
    await creating;
    await until(
      async () => !existsSync(rig.bundlePath("frail")) && !existsSync(rig.bundlePath("unborn")),
      () => "not in time: the bundles are gone",
      20_000,
    );
    assert.equal((await diary()).filter(({ action }) => action === "delete").length, 2, "one for each");
  });

  test("a container of a sandbox joins the sandbox's shim, which stays", async () => {
    const diary = await addFake(rig, "pod", {});
    await rig.tasks.create({ containerId: "pod" }, rig.headers);
    rig.addSandbox("pod");
    rig.addContainer("member", { args: ["true"], sandbox: "pod" });
    await rig.tasks.create({ containerId: "member" }, rig.headers);
    assert.equal(await readFile(`${rig.bundlePath("member")}/sandbox`, "utf8"), "pod");
    await rig.endProcess("SIGKILL");
    await rig.startProcess();
    await rig.tasks.delete({ containerId: "member" }, rig.headers);
    await until(
      async () => !existsSync(rig.bundlePath("member")),
      () => "not in time: the bundle is gone",
      20_000,
    );
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
});
