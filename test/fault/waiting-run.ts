import { mkdir, writeFile } from "node:fs/promises";
import { execa } from "execa";
import type { Daemon } from "../kit/daemon.ts";
import { until } from "../kit/processes.ts";

/** A container that runs until it is told to end, started by the daemon whose `ctr` waits for it. */
export interface WaitingRun extends AsyncDisposable {
  readonly id: string;
  /** Process id of the container's first process on the machine. */
  readonly pid: number;
  /** Lets the container end. */
  release(): Promise<void>;
  /** How `ctr run` ended: its exit code, -1 when it was killed, and what it wrote to standard error. */
  readonly ended: Promise<{ readonly exitCode: number; readonly stderr: string }>;
}

/** Where and how a container is run. */
export interface WaitingRunOptions {
  readonly daemon: Daemon;
  readonly namespace: string;
  readonly image: string;
  readonly id: string;
  /** With this it ends once it is released. */
  readonly exitCode: number;
  /** Directory for what releases it. */
  readonly directory: string;
  /** Further flags of `ctr run`, such as `--rm`. */
  readonly flags?: readonly string[];
}

/** Starts `ctr run` in the foreground and waits until its container runs. */
export async function startWaitingRun(options: WaitingRunOptions): Promise<WaitingRun> {
  const { daemon, namespace, image, id, exitCode, directory, flags = [] } = options;
  const gate = `${directory}/${id}`;
  await mkdir(gate, { recursive: true });
  const mount = `type=bind,src=${gate},dst=/gate,options=rbind:rw`;
  const command = `until test -e /gate/open; do sleep 0.05; done; exit ${exitCode}`;
  const place = ["--address", daemon.address, "--namespace", namespace];
  const child = execa("ctr", [...place, "run", ...flags, "--mount", mount, image, id, "sh", "-c", command], {
    reject: false,
    stdin: "ignore",
  });
  const ended = child.then((result) => ({ exitCode: result.exitCode ?? -1, stderr: result.stderr }));
  const dispose = async (): Promise<void> => {
    child.kill("SIGKILL");
    await ended;
  };
  try {
    return {
      id,
      pid: await awaitPid(daemon, namespace, id),
      release: () => writeFile(`${gate}/open`, ""),
      ended,
      [Symbol.asyncDispose]: dispose,
    };
  } catch (error) {
    await dispose();
    throw error;
  }
}

/** Tells how `ctr tasks ls` shows a task; undefined when it does not. */
export async function findTask(
  daemon: Daemon,
  namespace: string,
  id: string,
): Promise<{ readonly pid: number; readonly status: string } | undefined> {
  const { stdout } = await daemon.ctr("-n", namespace, "tasks", "ls");
  const [, pid, status] = new RegExp(`^${id}\\s+(\\d+)\\s+(\\w+)`, "m").exec(stdout) ?? [];
  return pid === undefined || status === undefined ? undefined : { pid: Number(pid), status };
}

async function awaitPid(daemon: Daemon, namespace: string, id: string): Promise<number> {
  let found: Awaited<ReturnType<typeof findTask>>;
  await until(
    async () => {
      found = await findTask(daemon, namespace, id);
      return found?.status === "RUNNING";
    },
    () => `container ${id} does not run: ${JSON.stringify(found)}\n${daemon.log()}`,
    30_000,
  );
  return found?.pid ?? 0;
}
