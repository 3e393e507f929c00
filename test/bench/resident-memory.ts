import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { systemErrorCode } from "#base/errors.ts";
import type { Daemon } from "../kit/daemon.ts";
import { listProcesses, type ProcessFacts, withDescendants } from "../kit/processes.ts";

const kibPerMib = 1024;
const lookMs = 250;

/** Sum over the processes of a daemon and its shims, in MiB, shared pages counted once; processes in containers and NATS's own are left out. */
export function residentMib(daemon: Daemon): number {
  const processes = listProcesses();
  const gateway = daemon.pidOf("gateway");
  const fleet = withDescendants(new Set(gateway === undefined ? [] : [gateway]), processes);
  return processes
    .filter(
      (facts) => isShimOf(daemon, facts) || (fleet.has(facts.pid) && !/(?:^|\/)nats-server(?: |$)/.test(facts.command)),
    )
    .reduce((sum, { pid }) => sum + proportionalKib(pid) / kibPerMib, 0);
}

/** What one process takes, in MiB, shared pages counted by their share. @throws Error when there is no such process. */
export function residentMibOf(pid: number | undefined): number {
  if (pid === undefined || readRollup(pid) === undefined) {
    throw new Error("the process does not run");
  }
  return proportionalKib(pid) / kibPerMib;
}

/** The most that a daemon takes while something goes on, looked at every quarter of a second. */
export async function highestMib(daemon: Daemon, work: Promise<unknown>): Promise<number> {
  const isOver = work.then(() => true);
  let highest = 0;
  do {
    highest = Math.max(highest, residentMib(daemon));
  } while (!(await Promise.race([isOver, delay(lookMs, false)])));
  return highest;
}

function isShimOf({ address }: Daemon, { command }: ProcessFacts): boolean {
  return command.includes("containerd-shim") && command.includes(address);
}

/** Nothing for a process that is gone. @source proc_pid_smaps(5), smaps_rollup */
function proportionalKib(pid: number): number {
  const rollup = readRollup(pid);
  const kib = /^Pss:\s+(\d+) kB$/m.exec(rollup ?? "")?.[1];
  if (rollup !== undefined && kib === undefined) {
    throw new Error(`no Pss for process ${pid}`);
  }
  return Number(kib ?? 0);
}

function readRollup(pid: number): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  } catch (error) {
    if (["ENOENT", "ESRCH"].includes(systemErrorCode(error) ?? "")) {
      return undefined;
    }
    throw error;
  }
}
