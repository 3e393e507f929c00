import { existsSync } from "node:fs";
import { RuntimeService } from "#gen/runtime/v1/api_pb.ts";
import { cgroupDirectories, removeCgroup } from "#linux/cgroup.ts";
import { CriRig, cniDirectory, podConfig } from "../kit/cri-rig.ts";
import { type LoadClient, startLoadClient } from "./load.ts";
import { type Bench, type Side, spreadOf } from "./measurement.ts";
import { say } from "./progress.ts";
import { residentMibOf } from "./resident-memory.ts";
import { interleave } from "./rounds.ts";

const rounds = 4;
const livesPerRound = 3;
const livesAtOnce = 8;
const execsPerRound = 20;
/** Lists are asked for as in the other rows of lists, by a client that does not decode them. */
const listing = { inFlight: 4, durationMs: 1_500, warmUpMs: 300 } as const;
const pods = 100;
const containersPerPod = 2;
/** Pods have a cgroup, as those of the kubelet: without one containerd has no figures. */
const cgroupParent = `/flotilla-bench-${process.pid}`;
const image = { image: "docker.io/library/busybox:test" };

/** What the kubelet asks for: pods with their containers from creation to removal, lists of many, commands. */
export const criBench: Bench = {
  name: "cri",
  async run() {
    if (!existsSync(`${cniDirectory}/bridge`)) {
      say("pods need the programs of CNI (containernetworking-plugins)");
      return [];
    }
    await using resources = new AsyncDisposableStack();
    resources.defer(removeCgroups);
    const client = resources.use(startLoadClient());
    const rigs: Record<Side, CriRig> = {
      flotilla: resources.use(await CriRig.start()),
      containerd: resources.use(await CriRig.start({ daemon: "containerd" })),
    };
    const lives = await interleave(rounds, async (side) => {
      const times: number[] = [];
      for (let life = 0; life < livesPerRound; life += 1) {
        times.push(await milliseconds(() => livePod(rigs[side])));
      }
      const togetherMs = await milliseconds(() =>
        Promise.all(Array.from({ length: livesAtOnce }, () => livePod(rigs[side]))),
      );
      return { aloneMs: spreadOf(times).median, togetherMs };
    });
    const containers: Record<Side, string> = {
      flotilla: await fill(rigs.flotilla),
      containerd: await fill(rigs.containerd),
    };
    const full = await interleave(rounds, async (side) => {
      const { runtime } = rigs[side];
      const execMs: number[] = [];
      for (let run = 0; run < execsPerRound; run += 1) {
        execMs.push(await milliseconds(() => runtime.execSync({ containerId: containers[side], cmd: ["true"] })));
      }
      return {
        execMs: spreadOf(execMs).median,
        listRate: await rate(client, rigs[side], "ListContainers"),
        statsRate: await rate(client, rigs[side], "ListPodSandboxStats"),
        memoryMib: residentMibOf(rigs[side].daemon.pidOf(side === "flotilla" ? "cri" : "gateway")),
      };
    });
    return [
      {
        what: "CRI: a pod with a container, from RunPodSandbox to RemovePodSandbox",
        unit: "ms",
        better: "lower",
        target: { kind: "ratio", bound: 1.1 },
        samples: lives.aloneMs,
      },
      {
        what: `CRI: ${livesAtOnce} of these at once`,
        unit: "ms",
        better: "lower",
        target: { kind: "ratio", bound: 1.1 },
        samples: lives.togetherMs,
      },
      {
        what: `CRI: ExecSync, with ${pods * containersPerPod} containers`,
        unit: "ms",
        better: "lower",
        target: { kind: "ratio", bound: 1.2 },
        samples: full.execMs,
      },
      {
        what: `CRI: ListContainers, with ${pods * containersPerPod} containers`,
        unit: "lists/s",
        better: "higher",
        target: { kind: "ratio", bound: 2 },
        samples: full.listRate,
      },
      // Nothing to compare with where one side cannot be called.
      ...([full.statsRate.flotilla, full.statsRate.containerd].some((rates) => rates.includes(0))
        ? []
        : [
            {
              what: `CRI: ListPodSandboxStats, with ${pods * containersPerPod} containers`,
              unit: "lists/s",
              better: "higher" as const,
              target: { kind: "ratio" as const, bound: 2 },
              samples: full.statsRate,
            },
          ]),
      {
        what: `CRI: memory of the process cri (of the whole containerd) with ${pods} pods`,
        unit: "MiB",
        better: "lower",
        target: { kind: "value", bound: 120 },
        samples: full.memoryMib,
      },
    ];
  },
};

async function livePod(rig: CriRig): Promise<void> {
  const { podSandboxId } = await startPod(rig, 1);
  await rig.runtime.stopPodSandbox({ podSandboxId });
  await rig.runtime.removePodSandbox({ podSandboxId });
}

/** Starts a pod; in the end its containers are stopped and removed with it. @returns The ids of both. */
async function startPod(
  { runtime }: CriRig,
  containers: number,
): Promise<{ readonly podSandboxId: string; readonly containerId: string }> {
  const sandboxConfig = podConfig({ linux: { cgroupParent } });
  const { podSandboxId } = await runtime.runPodSandbox({ config: sandboxConfig });
  let containerId = "";
  for (let index = 0; index < containers; index += 1) {
    const config = { metadata: { name: `c${index}` }, image, command: ["sleep", "3600"] };
    ({ containerId } = await runtime.createContainer({ podSandboxId, config, sandboxConfig }));
    await runtime.startContainer({ containerId });
    if (containers === 1) {
      await runtime.stopContainer({ containerId, timeout: 0n });
      await runtime.removeContainer({ containerId });
    }
  }
  return { podSandboxId, containerId };
}

/** Starts pods that stay. @returns A container of one of them. */
async function fill(rig: CriRig): Promise<string> {
  let containerId = "";
  for (let started = 0; started < pods; started += livesAtOnce) {
    const batch = Array.from({ length: Math.min(livesAtOnce, pods - started) }, () => startPod(rig, containersPerPod));
    ({ containerId = "" } = (await Promise.all(batch)).at(-1) ?? {});
  }
  return containerId;
}

async function milliseconds(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return performance.now() - startedMs;
}

/** Calls a second; none where the call fails, as some of containerd's do on machines without the second version of cgroups. */
async function rate(client: LoadClient, { daemon }: CriRig, method: string): Promise<number> {
  const calls = [{ path: `/${RuntimeService.typeName}/${method}`, messageBase64: "" }];
  try {
    const { turns, elapsedMs } = await client.run({ address: daemon.address, calls, namespace: "k8s.io", ...listing });
    return (turns * 1000) / elapsedMs;
  } catch (error) {
    say(`it cannot be called: ${String(error).slice(0, 200)}`);
    return 0;
  }
}

async function removeCgroups(): Promise<void> {
  for (const directory of await cgroupDirectories(cgroupParent)) {
    await removeCgroup(directory);
  }
}
