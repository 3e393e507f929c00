import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { systemErrorCode } from "#base/errors.ts";

/** A process of the machine. */
export interface ProcessFacts {
  readonly pid: number;
  readonly parentPid: number;
  /** Arguments, or the title that the process gave itself, joined by spaces. */
  readonly command: string;
  /** Paths of its cgroups. */
  readonly cgroups: readonly string[];
  /** When it was started, in clock ticks since the machine was. */
  readonly startedTicks: number;
}

/**
 * The processes that were started after this one, zombies left out. Whatever a test has started is among them; what was there
 * before is nobody's business here.
 */
export function listProcesses(): ProcessFacts[] {
  const own = findProcess(process.pid)?.startedTicks ?? 0;
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map((name) => findProcess(Number(name)))
    .filter((facts) => facts !== undefined)
    .filter(({ startedTicks }) => startedTicks >= own);
}

function findProcess(pid: number): ProcessFacts | undefined {
  const stat = readOf(pid, "stat");
  const command = readOf(pid, "cmdline");
  const cgroups = readOf(pid, "cgroup");
  if (stat === undefined || command === undefined || cgroups === undefined) {
    return undefined;
  }
  // The name of the program comes second and may hold anything; what follows it has fixed places. See proc(5).
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const [state, parent] = fields;
  if (state === "Z" || state === "X") {
    return undefined;
  }
  return {
    pid,
    parentPid: Number(parent),
    command: command.split("\0").join(" ").trim(),
    cgroups: cgroups
      .trim()
      .split("\n")
      .map((line) => line.split(":").slice(2).join(":")),
    startedTicks: Number(fields[19]),
  };
}

/** Tells whether a text stands in the environment that a process was started with; not in that of a process that hides it. */
export function hasInEnvironment(pid: number, text: string): boolean {
  return readOf(pid, "environ")?.includes(text) ?? false;
}

function readOf(pid: number, name: string): string | undefined {
  try {
    return readFileSync(`/proc/${pid}/${name}`, "utf8");
  } catch (error) {
    if (["ENOENT", "ESRCH", "EACCES", "EPERM"].includes(systemErrorCode(error) ?? "")) {
      return undefined;
    }
    throw error;
  }
}

/** The given processes and all that they or their children started, as far as the parents still run. */
export function withDescendants(pids: ReadonlySet<number>, processes: readonly ProcessFacts[]): Set<number> {
  const found = new Set(pids);
  for (let sizeBefore = -1; sizeBefore !== found.size; ) {
    sizeBefore = found.size;
    for (const { pid, parentPid } of processes) {
      if (found.has(parentPid)) {
        found.add(pid);
      }
    }
  }
  return found;
}

/** Tells whether a process runs; a zombie does not. */
export function isRunning(pid: number): boolean {
  return findProcess(pid) !== undefined;
}

/** Kills processes and waits until they are gone. @throws Error that names those which still run after 10 s. */
export async function killProcesses(pids: Iterable<number>): Promise<void> {
  const left = new Set(pids);
  for (const pid of left) {
    sendSignal(pid, "SIGKILL");
  }
  await until(
    () => {
      for (const pid of left) {
        if (!isRunning(pid)) {
          left.delete(pid);
        }
      }
      return left.size === 0;
    },
    () => `processes ${[...left].join(", ")} still run after SIGKILL`,
  );
}

/** Sends a signal; a process that is gone is no error. */
export function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (systemErrorCode(error) !== "ESRCH") {
      throw error;
    }
  }
}

const pollMs = 10;

/**
 * Waits until something is so.
 *
 * @param limitMs - 10 s unless given.
 * @throws Error with the given text when it is not so in time.
 */
export async function until(
  isSo: () => boolean | Promise<boolean>,
  describe: () => string,
  limitMs = 10_000,
): Promise<void> {
  const deadline = performance.now() + limitMs;
  while (!(await isSo())) {
    if (performance.now() > deadline) {
      throw new Error(`${describe()} (waited ${limitMs} ms)`);
    }
    await delay(pollMs);
  }
}
