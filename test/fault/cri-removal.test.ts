import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { chmod, mkdir, rm, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { CriRig, cniDirectory, nothingLeft, podConfig } from "../kit/cri-rig.ts";
import { listProcesses, until } from "../kit/processes.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";

const skip = existsSync(`${cniDirectory}/bridge`)
  ? false
  : "pods need the programs of CNI (containernetworking-plugins)";

const retryMs = 100;
const removalMsMax = 60_000;
/** As long as whoever does not wait for the end of a creation needs to remove a pod. */
const hastyMs = 3_000;

/** A runtime that stops before what it is asked to do, as long as it is told to. */
class HeldRuntime {
  readonly path: string;
  readonly #directory: string;

  private constructor(directory: string) {
    this.path = `${directory}/runc`;
    this.#directory = directory;
  }

  static async make(directory: string): Promise<HeldRuntime> {
    const runtime = new HeldRuntime(directory);
    const lines = [
      "#!/bin/sh",
      "for step in create delete; do",
      '  case " $* " in *" $step "*)',
      `    [ -e ${directory}/hold-$step ] && touch ${directory}/held-$step`,
      `    while [ -e ${directory}/hold-$step ]; do sleep 0.05; done`,
      "  esac",
      "done",
      'exec runc "$@"',
    ];
    await writeFile(runtime.path, `${lines.join("\n")}\n`);
    await chmod(runtime.path, 0o755);
    return runtime;
  }

  hold(step: "create" | "delete"): Promise<void> {
    return writeFile(`${this.#directory}/hold-${step}`, "");
  }

  async held(step: "create" | "delete"): Promise<void> {
    await until(
      () => existsSync(`${this.#directory}/held-${step}`),
      () => `nobody asks to ${step}`,
      30_000,
    );
  }

  release(step: "create" | "delete"): Promise<void> {
    return rm(`${this.#directory}/hold-${step}`, { force: true });
  }
}

/** A rig whose containers are made by the runtime. */
function startRig({ path }: HeldRuntime): Promise<CriRig> {
  return CriRig.start({
    runtime: `
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  BinaryName = "${path}"
`,
  });
}

/** Removes all pods as the kubelet does: again and again until there are none. */
async function removeAll({ runtime }: CriRig): Promise<void> {
  const deadline = performance.now() + removalMsMax;
  for (;;) {
    try {
      const { items } = await runtime.listPodSandbox({});
      for (const { id: podSandboxId } of items) {
        await runtime.stopPodSandbox({ podSandboxId });
        await runtime.removePodSandbox({ podSandboxId });
      }
      return;
    } catch (error) {
      if (performance.now() > deadline) {
        throw error;
      }
      await delay(retryMs);
    }
  }
}

async function leavesNothing(rig: CriRig): Promise<void> {
  const leftovers = async () => ({
    ...(await rig.leftovers()),
    shims: listProcesses()
      .filter(({ command }) => command.includes(`-address ${rig.daemon.address}`))
      .map(({ command }) => command),
  });
  await until(
    async () => Object.values(await leftovers()).every((list) => list.length === 0),
    () => "something is left",
    20_000,
  ).catch(() => undefined);
  assert.deepEqual(await leftovers(), { ...nothingLeft, shims: [] });
}

/**
 * Kills cri amid a creation, has the pods removed while what was made is being undone, kills who undoes it, and lets the next one go on.
 *
 * @param make - Makes what comes before. @returns What begins the creation.
 */
async function removeAmidCreation(make: (rig: CriRig) => Promise<() => Promise<unknown>>): Promise<void> {
  await using directory = await makeTemporaryDirectory("held");
  const runtime = await HeldRuntime.make(directory.path);
  await using rig = await startRig(runtime);
  const create = await make(rig);
  await runtime.hold("create");
  await runtime.hold("delete");
  try {
    const failed = assert.rejects(create());
    await runtime.held("create");
    await rig.daemon.kill9("cri");
    await failed;
    await runtime.release("create");
    await runtime.held("delete");
    const removed = removeAll(rig);
    await Promise.race([removed, delay(hastyMs)]);
    await rig.daemon.kill9("tasks");
    await runtime.release("delete");
    await removed;
    await leavesNothing(rig);
  } finally {
    await runtime.release("create");
    await runtime.release("delete");
  }
}

test("a pod that was being made for a dead cri leaves nothing when it is removed", { skip }, () =>
  removeAmidCreation(({ runtime }) => Promise.resolve(() => runtime.runPodSandbox({ config: podConfig() }))),
);

test("a container that was being made for a dead cri leaves nothing when it is removed", { skip }, () =>
  removeAmidCreation(async (rig) => {
    const containerId = await createContainer(rig);
    return () => rig.runtime.startContainer({ containerId });
  }),
);

test("a container with a task that cri knows nothing of leaves nothing when it is removed", { skip }, async () => {
  await using rig = await CriRig.start();
  const containerId = await createContainer(rig);
  const start = ["tasks", "start", "--detach", "--null-io", containerId];
  const { exitCode, stderr } = await rig.daemon.ctr("--namespace", "k8s.io", ...start);
  assert.equal(exitCode, 0, stderr);
  await rig.runtime.removeContainer({ containerId });
  assert.ok(!(await rig.leftovers())["tasks"]?.includes(containerId));
  await removeAll(rig);
  await leavesNothing(rig);
});

async function createContainer({ runtime, directory }: CriRig): Promise<string> {
  const config = podConfig({ logDirectory: `${directory}/logs` });
  await mkdir(`${directory}/logs`, { recursive: true });
  const { podSandboxId } = await runtime.runPodSandbox({ config });
  const { containerId } = await runtime.createContainer({
    podSandboxId,
    config: {
      metadata: { name: "one", attempt: 0 },
      image: { image: "docker.io/library/busybox:test" },
      command: ["sleep", "1000"],
      logPath: "one",
    },
    sandboxConfig: config,
  });
  return containerId;
}
