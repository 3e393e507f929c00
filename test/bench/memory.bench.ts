import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import type { Daemon } from "../kit/daemon.ts";
import { busyboxImage } from "../kit/image.ts";
import { uniqueNamespace } from "../kit/namespace.ts";
import { listProcesses, type ProcessFacts, withDescendants } from "../kit/processes.ts";
import { ctr, startSide } from "./daemons.ts";
import type { Bench } from "./measurement.ts";
import { interleave } from "./rounds.ts";

const rounds = 3;
const containers = 10;
/** How long a daemon is left alone before it counts as idle. */
const settleMs = 5_000;
const kibPerMib = 1024;

/** What idle daemons and containers take: proportional set sizes, so that shared pages count once. */
export const memoryBench: Bench = {
  name: "memory",
  async run() {
    const results = await interleave(rounds, async (side) => {
      const namespace = uniqueNamespace();
      await using daemon = await startSide(side);
      await delay(settleMs);
      const idleMib = residentMib(daemon);
      const { tar, name } = await busyboxImage();
      await ctr(daemon, "-n", namespace, "images", "import", tar);
      // The first container also brings what its daemon loads when it is first used.
      await ctr(daemon, "-n", namespace, "run", "-d", name, "first", "sleep", "3600");
      await delay(settleMs);
      const before = residentMib(daemon);
      for (let index = 0; index < containers; index += 1) {
        await ctr(daemon, "-n", namespace, "run", "-d", name, `further-${index}`, "sleep", "3600");
      }
      await delay(settleMs);
      return { idleMib, containerMib: (residentMib(daemon) - before) / containers };
    });
    return [
      {
        what: "memory of the idle daemon, without nats-server",
        unit: "MiB",
        better: "lower",
        target: { kind: "value", bound: 160 },
        samples: results.idleMib,
      },
      {
        what: "memory of each further idle container, shim included",
        unit: "MiB",
        better: "lower",
        samples: results.containerMib,
      },
    ];
  },
};

/** Sum over the processes of a daemon and its shims; those in containers and NATS's own are left out. */
function residentMib(daemon: Daemon): number {
  const processes = listProcesses();
  const gateway = daemon.pidOf("gateway");
  const fleet = withDescendants(new Set(gateway === undefined ? [] : [gateway]), processes);
  return processes
    .filter(
      (facts) => isShimOf(daemon, facts) || (fleet.has(facts.pid) && !/(?:^|\/)nats-server(?: |$)/.test(facts.command)),
    )
    .reduce((sum, { pid }) => sum + proportionalKib(pid) / kibPerMib, 0);
}

function isShimOf({ address }: Daemon, { command }: ProcessFacts): boolean {
  return command.includes("containerd-shim") && command.includes(address);
}

/** @source proc_pid_smaps(5), smaps_rollup */
function proportionalKib(pid: number): number {
  const kib = /^Pss:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))?.[1];
  if (kib === undefined) {
    throw new Error(`no Pss for process ${pid}`);
  }
  return Number(kib);
}
