import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { ContainerState, PodSandboxState } from "#gen/runtime/v1/api_pb.ts";
import { readMountInfo } from "#linux/mount-info.ts";
import { CriRig, cniDirectory, nothingLeft } from "../kit/cri-rig.ts";
import { listProcesses, sendSignal, until } from "../kit/processes.ts";
import { type Random, seededRandom } from "./random.ts";

const skip = existsSync(`${cniDirectory}/bridge`)
  ? false
  : "pods need the programs of CNI (containernetworking-plugins)";

/** More and longer by hand. */
const pods = Number(process.env["FLOTILLA_TEST_PODS"] ?? 12);
const atATime = Number(process.env["FLOTILLA_TEST_PODS_AT_A_TIME"] ?? 4);
const killed = ["cri", "tasks", "metadata", "snapshots", "content", "events", "gateway", "shim"] as const;
const podMsMax = 120_000;
const killPauseMsMax = 1_500;
/** There are more pods than asked for on a machine that is through with them before so many processes are killed. */
const killsMin = 4;
const endMsMax = 30_000;
/** Of a container whose shim was killed, */
const killedCode = 137;
/** and of one that nobody saw end. */
const unknownCode = 255;

/** What is known of all pods together. */
interface Load {
  readonly rig: CriRig;
  /** Pods whose shim was killed, which ends them. */
  readonly murdered: Set<string>;
  /** Which processes were killed so far, in order. */
  readonly deaths: string[];
  /** Ids of all pods and containers there were. */
  readonly ids: Set<string>;
  /** Aborts when there is nothing more to do. */
  readonly done: AbortSignal;
}

test("pods come, end as they are asked to and go while processes are killed, and nothing is left", {
  skip,
}, async (t) => {
  await using rig = await CriRig.start();
  const random = seededRandom();
  t.diagnostic(`FLOTILLA_TEST_SEED=${random.seed}`);
  const done = new AbortController();
  const load: Load = { rig, murdered: new Set(), deaths: [], ids: new Set(), done: done.signal };
  const killing = killAtRandom(load, random);
  let seen = 0;
  let attempts = 0;
  try {
    await Promise.all(
      Array.from({ length: atATime }, async () => {
        while (seen < pods || load.deaths.length < killsMin) {
          seen += 1;
          const tries = await seeThrough(load, seen);
          attempts += tries;
        }
      }),
    );
  } finally {
    // After a failure the others give up, too.
    done.abort();
    await killing;
  }
  const { deaths } = load;
  t.diagnostic(`${seen} pods took ${attempts} attempts under ${deaths.length} kills: ${deaths.join(" ")}`);
  await until(
    async () => Object.values(await leftovers(load)).every((list) => list.length === 0),
    () => "something of the pods is left",
    endMsMax,
  ).catch(() => undefined);
  assert.deepEqual(await leftovers(load), { ...nothingLeft, shims: [], mounts: [], cgroups: [], runc: [] });
});

/** Kills one process after the other until all is done. */
async function killAtRandom(load: Load, random: Random): Promise<void> {
  const { rig, done, deaths } = load;
  while (!done.aborted) {
    await delay(killPauseMsMax / 4 + random.below(killPauseMsMax), undefined, { signal: done }).catch(() => undefined);
    const name = random.pick(killed);
    if (done.aborted || (name === "shim" ? !killShim(load, random) : rig.daemon.pidOf(name) === undefined)) {
      continue;
    }
    deaths.push(name);
    if (name !== "shim") {
      await rig.daemon.kill9(name);
    }
    if (name === "gateway") {
      await rig.daemon.start();
    }
  }
}

/** @returns whether there was one. */
function killShim(load: Load, random: Random): boolean {
  const [first, ...others] = shimsOf(load.rig);
  if (first === undefined) {
    return false;
  }
  const { pid, command } = random.pick([first, ...others]);
  load.murdered.add(/ -id ([\da-f]{64})/.exec(command)?.[1] ?? "");
  sendSignal(pid, "SIGKILL");
  return true;
}

function shimsOf({ daemon }: CriRig) {
  return listProcesses().filter(({ command }) => command.includes(`-address ${daemon.address}`));
}

async function leftovers({ rig, ids }: Load): Promise<Record<string, readonly string[]>> {
  const mounts = await readMountInfo();
  return {
    ...(await rig.leftovers()),
    shims: shimsOf(rig).map(({ command }) => command),
    mounts: mounts
      .map(({ mountPoint }) => mountPoint)
      .filter((path) => path.startsWith(rig.daemon.state) || path.startsWith(rig.daemon.root)),
    cgroups: globSync("/sys/fs/cgroup/{,*/}k8s.io/*").filter((path) => ids.has(path.slice(path.lastIndexOf("/") + 1))),
    runc: [...ids].filter((id) => existsSync(`/run/containerd/runc/k8s.io/${id}`)),
  };
}

/** Runs a pod with two containers as the kubelet does: what fails is cleared away and tried again. @returns How often it was tried. */
async function seeThrough(load: Load, number: number): Promise<number> {
  const deadline = performance.now() + podMsMax;
  for (let attempt = 0; ; attempt += 1) {
    try {
      await runOnce(load, number, attempt);
      return attempt + 1;
    } catch (error) {
      if (error instanceof assert.AssertionError || load.done.aborted || performance.now() > deadline) {
        throw error;
      }
    }
  }
}

async function runOnce(load: Load, number: number, attempt: number): Promise<void> {
  const { rig, ids, deaths } = load;
  const { runtime } = rig;
  const deathsBefore = deaths.length;
  const labels = { number: String(number) };
  const logDirectory = `${rig.directory}/logs/${number}-${attempt}`;
  await mkdir(logDirectory, { recursive: true });
  try {
    const config = {
      metadata: { name: `chaos-${number}`, namespace: "default", uid: `chaos-${number}`, attempt },
      labels,
      logDirectory,
    };
    const { podSandboxId } = await runtime.runPodSandbox({ config });
    ids.add(podSandboxId);
    const isMurdered = (): boolean => load.murdered.has(podSandboxId);
    const run = async (name: string, script: string): Promise<string> => {
      const container = {
        metadata: { name, attempt: 0 },
        image: { image: "docker.io/library/busybox:test" },
        command: ["sh", "-c", script],
        logPath: name,
      };
      const { containerId } = await runtime.createContainer({ podSandboxId, config: container, sandboxConfig: config });
      ids.add(containerId);
      await runtime.startContainer({ containerId });
      return containerId;
    };
    const [ownCode, askedCode] = [10 + number, 130 + number];
    const ending = await run("ending", `sleep 2; echo last ${number}; exit ${ownCode}`);
    const serving = await run("serving", `trap 'exit ${askedCode}' TERM; sleep 1000 & wait`);
    const { stdout } = await runtime.execSync({ containerId: serving, cmd: ["echo", `${number}`], timeout: 10n });
    assert.equal(Buffer.from(stdout).toString(), `${number}\n`);
    const endWith = async (containerId: string, code: number): Promise<void> => {
      await until(
        async () => (await runtime.containerStatus({ containerId })).status?.state === ContainerState.CONTAINER_EXITED,
        () => "the end of a container is not seen",
        endMsMax,
      );
      const { status } = await runtime.containerStatus({ containerId });
      const since = deaths.slice(deathsBefore);
      const isForgotten = since.includes("cri") || since.includes("gateway");
      const codes = isMurdered() ? [code, killedCode, ...(isForgotten ? [unknownCode] : [])] : [code];
      assert.ok(
        codes.includes(status?.exitCode ?? -1),
        `${containerId} ended with ${status?.exitCode}, not ${codes.join(" or ")}`,
      );
    };
    await endWith(ending, ownCode);
    if (isMurdered()) {
      throw new Error("the shim of the pod was killed");
    }
    // With both away nobody holds what was put out last.
    const since = deaths.slice(deathsBefore);
    if (!since.includes("gateway") && !(since.includes("cri") && since.includes("tasks"))) {
      assert.match(readFileSync(`${logDirectory}/ending`, "utf8"), new RegExp(`^\\S+ stdout F last ${number}\\n$`));
    }
    await runtime.stopContainer({ containerId: serving, timeout: 10n });
    await endWith(serving, askedCode);
    const { status } = await runtime.podSandboxStatus({ podSandboxId });
    assert.ok(status?.state === PodSandboxState.SANDBOX_READY || isMurdered());
  } finally {
    await removeAll(load, labels);
  }
}

/** Removes whatever there is of a pod, however often that takes. */
async function removeAll({ rig: { runtime }, done }: Load, labelSelector: Record<string, string>): Promise<void> {
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
      if (done.aborted || performance.now() > deadline) {
        throw error;
      }
      await delay(200);
    }
  }
}
