import assert from "node:assert/strict";
import { chmod, readFile, writeFile } from "node:fs/promises";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type Client, createClient } from "@connectrpc/connect";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { Controller } from "#gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import { seededRandom } from "../fault/random.ts";
import { isRunning, until } from "../kit/processes.ts";
import { cutting } from "./tasks-cut.ts";
import type { FakeShimBehaviour } from "./tasks-fake-shim.ts";
import { lacksContainers, TasksRig } from "./tasks-rig.ts";

const randomRuns = 8;
/** About how long a call takes that starts programs. */
const callMsMax = 200;

const fakeShim = fileURLToPath(new URL("./tasks-fake-shim.ts", import.meta.url));

describe("sandboxes", { skip: lacksContainers }, () => {
  let rig: TasksRig;
  const controller = (): Client<typeof Controller> => createClient(Controller, rig.transport);

  before(async () => {
    rig = await TasksRig.start();
  });
  after(async () => {
    await rig?.[Symbol.asyncDispose]();
  });

  /** A runtime whose shim knows sandboxes. @returns its path, and how to read what the shim was asked. */
  async function sandboxShim(
    id: string,
  ): Promise<{ readonly runtime: string; readonly asked: () => Promise<Record<string, unknown>[]> }> {
    const behaviour: FakeShimBehaviour = {
      diary: `${rig.directory}/${id}.diary`,
      socket: `${rig.directory}/${id}.sock`,
      reply: "json",
      servedVersion: 3,
    };
    const runtime = `${rig.directory}/shim-${id}`;
    const script = `#!/bin/sh\nfor last; do :; done\ncase "$last" in\n-v) ;;\ndelete) ;;\n*) exec ${process.execPath} ${fakeShim} '${JSON.stringify(behaviour)}' "$@" ;;\nesac\n`;
    await writeFile(runtime, script);
    await chmod(runtime, 0o755);
    return {
      runtime,
      asked: async () =>
        (await readFile(behaviour.diary, "utf8"))
          .split("\n")
          .filter((line) => line !== "")
          .map((line) => JSON.parse(line) as Record<string, unknown>)
          .filter(({ action }) => action !== "start"),
    };
  }

  const topics = (id: string): string[] =>
    rig.events.filter(({ fields }) => fields["sandboxId"] === id).map(({ topic }) => topic);

  test("a sandboxer must be named, and be there", async () => {
    await assert.rejects(controller().create({ sandboxId: "x" }, rig.headers), {
      kind: ErrorKind.InvalidArgument,
      message: "invalid argument: sandbox controller name can not be empty",
    });
    await assert.rejects(controller().status({ sandboxId: "x", sandboxer: "moon" }, rig.headers), {
      kind: ErrorKind.NotFound,
      message: "not found: failed to get sandbox controller by moon",
    });
    await assert.rejects(controller().start({ sandboxId: "x", sandboxer: "moon" }, rig.headers), {
      message: 'failed to get sandbox controller for "moon": not found: failed to get sandbox controller by moon',
    });
    await assert.rejects(controller().create({ sandboxId: "x", sandboxer: "shim" }), {
      kind: ErrorKind.FailedPrecondition,
    });
  });

  test("a shim that knows sandboxes runs one, also when this process is killed meanwhile", async () => {
    const { runtime, asked } = await sandboxShim("sb1");
    const call = { sandboxId: "sb1", sandboxer: "shim" };
    rig.addSandbox("sb1");
    await controller().create(
      { ...call, netnsPath: "/run/netns/x", sandbox: { sandboxId: "sb1", runtime: { name: runtime } } },
      rig.headers,
    );
    await assert.rejects(
      controller().create({ ...call, sandbox: { sandboxId: "sb1", runtime: { name: runtime } } }, rig.headers),
      { kind: ErrorKind.AlreadyExists, message: "sandbox sb1 already running: already exists" },
    );
    const started = await controller().start(call, rig.headers);
    assert.equal(started.sandboxId, "sb1");
    assert.equal(started.createdAt?.seconds, 5n);
    assert.match(started.address, /^ttrpc\+unix:\/\//);
    assert.equal(started.version, 3);
    assert.deepEqual((await controller().platform(call, rig.headers)).platform?.architecture, "riscv64");
    assert.equal((await controller().metrics(call, rig.headers)).metrics?.id, "sb1");
    assert.deepEqual(
      await controller().update({ ...call, sandbox: { sandboxId: "sb1" } }, rig.headers),
      await controller().update({ ...call, sandbox: {} }, rig.headers),
    );

    await rig.endProcess("SIGKILL");
    await rig.startProcess();
    const status = await controller().status({ ...call, verbose: true }, rig.headers);
    assert.equal(status.state, "SANDBOX_READY");
    assert.deepEqual({ ...status.info }, { more: "said" });
    assert.equal(status.pid, started.pid);
    await assert.rejects(rig.tasks.get({ containerId: "sb1" }, rig.headers), { kind: ErrorKind.NotFound });

    const waiters = [controller().wait(call, rig.headers), controller().wait(call, rig.headers)];
    await controller().stop({ ...call, timeoutSecs: 3 }, rig.headers);
    for (const { exitStatus, exitedAt } of await Promise.all(waiters)) {
      assert.equal(exitStatus, 7);
      assert.equal(exitedAt?.seconds, 9n);
    }
    await controller().shutdown(call, rig.headers);
    await until(
      () => !isRunning(started.pid),
      () => "the shim lives on",
    );
    await controller().stop(call, rig.headers);
    assert.notEqual((await controller().status(call, rig.headers)).exitedAt?.seconds, 0n);
    await assert.rejects(controller().wait(call, rig.headers), { kind: ErrorKind.NotFound, message: "not found" });
    assert.deepEqual(topics("sb1"), ["/sandboxes/create", "/sandboxes/start", "/sandboxes/exit", "/sandboxes/exit"]);
    assert.equal(rig.events.find(({ topic }) => topic === "/sandboxes/exit")?.fields["exitStatus"], 7);
    assert.deepEqual(
      (await asked()).map(({ action }) => action),
      ["createSandbox", "stopSandbox", "shutdownSandbox", "shutdown"],
    );
  });

  test("a sandbox that does not start leaves nothing, and its id is free", async () => {
    const { runtime } = await sandboxShim("no-start");
    const call = { sandboxId: "no-start", sandboxer: "shim" };
    const sandbox = { sandboxId: "no-start", runtime: { name: runtime } };
    for (let attempt = 0; attempt < 2; attempt += 1) {
      await controller().create({ ...call, sandbox }, rig.headers);
      await assert.rejects(controller().start(call, rig.headers), {
        message: /^failed to start sandbox "no-start": failed to start sandbox no-start: no room/,
      });
    }
    await assert.rejects(readFile(`${rig.bundlePath("no-start")}/bootstrap.json`), { code: "ENOENT" });
  });

  test("a pause container keeps a sandbox alive, and whoever waits is told of its end", async () => {
    const call = { sandboxId: "pod1", sandboxer: "podsandbox" };
    const metadata = { typeUrl: "x", value: new Uint8Array() };
    await assert.rejects(controller().create(call, rig.headers), /failed to get sandbox "pod1" metadata/);
    await controller().create({ ...call, sandbox: { sandboxId: "pod1", extensions: { metadata } } }, rig.headers);
    await assert.rejects(controller().start(call, rig.headers), {
      message: 'failed to start sandbox "pod1": unable to find pod sandbox with id "pod1": not found',
    });
    rig.addContainer("pod1", { args: ["sleep", "1000"] });
    const { pid } = await controller().start(call, rig.headers);
    assert.equal(isRunning(pid), true);
    assert.equal((await controller().status(call, rig.headers)).state, "SANDBOX_READY");
    assert.equal((await controller().metrics(call, rig.headers)).metrics?.id, "pod1");
    await assert.rejects(
      controller().create({ ...call, sandbox: { sandboxId: "pod1", extensions: { metadata } } }, rig.headers),
      (error) => isFailure(error, ErrorKind.AlreadyExists),
    );

    await rig.endProcess("SIGKILL");
    await rig.startProcess();
    assert.equal((await controller().status(call, rig.headers)).pid, pid);
    const waiters = [1, 2, 3].map(() => controller().wait(call, rig.headers));
    await Promise.all([controller().stop(call, rig.headers), controller().stop(call, rig.headers)]);
    for (const { exitStatus } of await Promise.all(waiters)) {
      assert.equal(exitStatus, 137);
    }
    assert.equal((await controller().status(call, rig.headers)).state, "SANDBOX_NOTREADY");
    assert.equal(topics("pod1").filter((topic) => topic === "/sandboxes/exit").length, 3);
    await controller().shutdown(call, rig.headers);
    await controller().shutdown(call, rig.headers);
    await assert.rejects(controller().wait(call, rig.headers), { kind: ErrorKind.NotFound });
  });

  test("changes whose process dies before the answer are made once: a shim that knows sandboxes", async () => {
    await using ways = new AsyncDisposableStack();
    const touch = (client: Client<typeof Controller>) => client.platform({ sandboxer: "podsandbox" }, rig.headers);
    const cut = cutting(rig, Controller, touch, ways);
    const { runtime, asked } = await sandboxShim("sb2");
    const call = { sandboxId: "sb2", sandboxer: "shim" };
    rig.addSandbox("sb2");
    const sandbox = { sandboxId: "sb2", runtime: { name: runtime } };
    assert.equal((await cut((client) => client.create({ ...call, sandbox }, rig.headers))).sandboxId, "sb2");
    const started = await cut((client) => client.start(call, rig.headers));
    assert.equal(started.createdAt?.seconds, 5n);
    assert.equal((await controller().status(call, rig.headers)).pid, started.pid);
    await cut((client) => client.update({ ...call, sandbox: { sandboxId: "sb2" } }, rig.headers));
    await cut((client) => client.stop(call, rig.headers));
    await cut((client) => client.shutdown(call, rig.headers));
    await until(
      () => !isRunning(started.pid),
      () => "the shim lives on",
    );
    assert.deepEqual(topics("sb2"), ["/sandboxes/create", "/sandboxes/start"]);
    assert.deepEqual(
      (await asked()).map(({ action }) => action),
      ["createSandbox", "stopSandbox", "shutdownSandbox", "shutdown"],
    );
  });

  test("changes whose process dies before the answer are made once: a pause container", async () => {
    await using ways = new AsyncDisposableStack();
    const touch = (client: Client<typeof Controller>) => client.platform({ sandboxer: "podsandbox" }, rig.headers);
    const cut = cutting(rig, Controller, touch, ways);
    const call = { sandboxId: "pod2", sandboxer: "podsandbox" };
    const extensions = { metadata: { typeUrl: "x", value: new Uint8Array() } };
    rig.addContainer("pod2", { args: ["sleep", "1000"] });
    await cut((client) => client.create({ ...call, sandbox: { sandboxId: "pod2", extensions } }, rig.headers));
    const { pid } = await cut((client) => client.start(call, rig.headers));
    assert.equal((await controller().status(call, rig.headers)).pid, pid);
    await cut((client) => client.stop(call, rig.headers));
    assert.equal(isRunning(pid), false);
    await cut((client) => client.shutdown(call, rig.headers));
    assert.deepEqual(topics("pod2"), ["/sandboxes/create", "/sandboxes/start"]);
    assert.equal(rig.topicsOf("pod2").filter((topic) => topic === "/tasks/start").length, 1);
  });

  test("kill -9 at any moment: pods start once and end, and nothing is left", async (t) => {
    const random = seededRandom();
    t.diagnostic(`FLOTILLA_TEST_SEED=${random.seed}`);
    const extensions = { metadata: { typeUrl: "x", value: new Uint8Array() } };
    for (let run = 0; run < randomRuns; run += 1) {
      const id = `any${run}`;
      const call = { sandboxId: id, sandboxer: "podsandbox" };
      rig.addContainer(id, { args: ["sleep", "1000"] });
      const cut = random.below(4);
      let step = 0;
      /** Makes a call, amid which the process dies if it is its turn. */
      const make = async <T>(made: Promise<T>): Promise<T> => {
        made.catch(() => undefined);
        if (step === cut) {
          await delay(random.below(callMsMax));
          await rig.endProcess("SIGKILL");
          await rig.startProcess();
        }
        step += 1;
        return await made;
      };
      await make(controller().create({ ...call, sandbox: { sandboxId: id, extensions } }, rig.headers));
      const { pid } = await make(controller().start(call, rig.headers));
      assert.equal(isRunning(pid), true);
      assert.equal((await controller().status(call, rig.headers)).pid, pid);
      await make(controller().stop(call, rig.headers));
      assert.equal(isRunning(pid), false);
      await make(controller().shutdown(call, rig.headers));
      assert.equal(topics(id).filter((topic) => topic === "/sandboxes/start").length, 1);
    }
    await until(
      async () => (await rig.shims()).length === 0,
      () => `shims are left:\n${rig.log}`,
      30_000,
    );
  });
});
