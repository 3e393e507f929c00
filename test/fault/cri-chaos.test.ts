import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { ContainerState, PodSandboxState } from "#gen/runtime/v1/api_pb.ts";
import { CriRig, cniDirectory, nothingLeft } from "../kit/cri-rig.ts";
import { until } from "../kit/processes.ts";
import { seededRandom } from "./random.ts";

const skip = existsSync(`${cniDirectory}/bridge`)
  ? false
  : "pods need the programs of CNI (containernetworking-plugins)";

const pods = 12;
const atATime = 4;
const killed = ["cri", "tasks", "metadata", "snapshots", "content", "events"] as const;
const podMsMax = 120_000;

test("pods come, run to their ends and go while processes are killed, and nothing is left", { skip }, async (t) => {
  await using rig = await CriRig.start();
  const random = seededRandom();
  const done = new AbortController();
  let kills = 0;
  const killing = (async () => {
    while (!done.signal.aborted) {
      await delay(500 + random.below(1500), undefined, { signal: done.signal }).catch(() => undefined);
      const name = random.pick(killed);
      if (!done.signal.aborted && rig.daemon.pidOf(name) !== undefined) {
        await rig.daemon.kill9(name);
        kills += 1;
      }
    }
  })();
  const numbers = Array.from({ length: pods }, (_, index) => index);
  let attempts = 0;
  try {
    await Promise.all(
      Array.from({ length: atATime }, async () => {
        for (let number = numbers.shift(); number !== undefined; number = numbers.shift()) {
          const tries = await seeThrough(rig, number, done.signal);
          attempts += tries;
        }
      }),
    );
  } finally {
    // After a failure the others give up, too.
    done.abort();
    await killing;
  }
  t.diagnostic(`${pods} pods took ${attempts} attempts under ${kills} kills`);
  assert.ok(kills > 3);
  await until(
    async () => Object.values(await rig.leftovers()).every((list) => list.length === 0),
    () => "something of the pods is left",
    30_000,
  ).catch(() => undefined);
  assert.deepEqual(await rig.leftovers(), nothingLeft);
});

/** Runs a pod with two containers as the kubelet does: what fails is cleared away and tried again. @returns How often it was tried. */
async function seeThrough(rig: CriRig, number: number, given: AbortSignal): Promise<number> {
  const deadline = performance.now() + podMsMax;
  for (let attempt = 0; ; attempt += 1) {
    try {
      await runOnce(rig, number, attempt, given);
      return attempt + 1;
    } catch (error) {
      if (error instanceof assert.AssertionError || given.aborted || performance.now() > deadline) {
        throw error;
      }
    }
  }
}

async function runOnce({ runtime }: CriRig, number: number, attempt: number, given: AbortSignal): Promise<void> {
  const labels = { number: String(number) };
  try {
    const config = {
      metadata: { name: `chaos-${number}`, namespace: "default", uid: `chaos-${number}`, attempt },
      labels,
    };
    const { podSandboxId } = await runtime.runPodSandbox({ config });
    const codes = [10 + number, 50 + number];
    const ids: string[] = [];
    for (const code of codes) {
      const container = {
        metadata: { name: `c${code}`, attempt: 0 },
        image: { image: "docker.io/library/busybox:test" },
        command: ["sh", "-c", `sleep 1; exit ${code}`],
      };
      const { containerId } = await runtime.createContainer({ podSandboxId, config: container, sandboxConfig: config });
      await runtime.startContainer({ containerId });
      ids.push(containerId);
    }
    for (const [index, containerId] of ids.entries()) {
      await until(
        async () => (await runtime.containerStatus({ containerId })).status?.state === ContainerState.CONTAINER_EXITED,
        () => "the end of a container is not seen",
        30_000,
      );
      const { status } = await runtime.containerStatus({ containerId });
      assert.equal(status?.exitCode, codes[index], `exit code of ${containerId}`);
    }
    const { status } = await runtime.podSandboxStatus({ podSandboxId });
    assert.equal(status?.state, PodSandboxState.SANDBOX_READY);
  } finally {
    await removeAll(runtime, labels, given);
  }
}

/** Removes whatever there is of a pod, however often that takes. */
async function removeAll(
  runtime: CriRig["runtime"],
  labelSelector: Record<string, string>,
  given: AbortSignal,
): Promise<void> {
  const deadline = performance.now() + podMsMax;
  for (;;) {
    try {
      const { items } = await runtime.listPodSandbox({ filter: { labelSelector } });
      for (const { id: podSandboxId } of items) {
        await runtime.stopPodSandbox({ podSandboxId });
        await runtime.removePodSandbox({ podSandboxId });
      }
      return;
    } catch (error) {
      if (given.aborted || performance.now() > deadline) {
        throw error;
      }
      await delay(200);
    }
  }
}
