import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync, readFileSync, rmdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { listProcesses, until } from "./processes.ts";
import { makeTemporaryDirectory } from "./temporary-directory.ts";

/** How a program in a machine ended. */
export interface MachineResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number | undefined;
}

/** A machine with the files of this one and a systemd of its own, whose changes go with it. It shares the network. */
export interface Machine extends AsyncDisposable {
  /** Runs a program as root. */
  run(command: string, ...args: string[]): Promise<MachineResult>;
  /** Runs a line of the shell as root. @throws Error when it fails. */
  shell(line: string, input?: string): Promise<string>;
}

const bootScript = fileURLToPath(new URL("machine-boot.sh", import.meta.url));
const bootMsMax = 60_000;
const runMsMax = 90_000;

/** Why no machine can be booted here; undefined when one can. */
export function whyNoMachine(): string | undefined {
  if (process.geteuid?.() !== 0) {
    return "only root may make namespaces for a machine";
  }
  if (!existsSync("/lib/systemd/systemd") || !existsSync("/usr/bin/systemctl")) {
    return "systemd is not installed";
  }
  return readFileSync("/proc/filesystems", "utf8").includes("\toverlay\n") ? undefined : "the kernel has no overlayfs";
}

/** Boots a machine and waits until its systemd has started what it starts. */
export async function bootMachine(): Promise<Machine> {
  const directory = await makeTemporaryDirectory("m");
  const cgroup = directory.path.split("/").at(-1) ?? "";
  const child = spawn(
    "unshare",
    ["--pid", "--mount", "--uts", "--ipc", "--fork", "--kill-child", bootScript, directory.path, cgroup],
    { stdio: ["ignore", "ignore", "inherit"] },
  );
  const machine = new BootedMachine(child);
  try {
    await until(
      async () => /^(?:running|degraded)$/m.test((await machine.run("systemctl", "is-system-running")).stdout),
      () => "the machine does not come up",
      bootMsMax,
    );
  } catch (error) {
    await dispose();
    throw error;
  }
  async function dispose(): Promise<void> {
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
    // The first process of the machine is gone, so that all others go.
    await until(
      () => !removeCgroups(cgroup),
      () => "cgroups of the machine stay",
      bootMsMax,
    );
    await directory[Symbol.asyncDispose]();
  }
  return {
    run: (command, ...args) => machine.run(command, ...args),
    shell: (line, input) => machine.shell(line, input),
    [Symbol.asyncDispose]: dispose,
  };
}

class BootedMachine {
  readonly #child: ChildProcess;

  constructor(child: ChildProcess) {
    this.#child = child;
  }

  async run(command: string, ...args: string[]): Promise<MachineResult> {
    return await this.#enter([command, ...args], "");
  }

  async shell(line: string, input = ""): Promise<string> {
    const { stdout, stderr, exitCode } = await this.#enter(["sh", "-euc", line], input);
    if (exitCode !== 0) {
      throw new Error(`${line}: exit status ${exitCode}\n${stdout}\n${stderr}`);
    }
    return stdout;
  }

  async #enter(command: readonly string[], input: string): Promise<MachineResult> {
    const first = this.#firstProcess();
    if (first === undefined) {
      return { stdout: "", stderr: "the machine does not run yet", exitCode: undefined };
    }
    const namespaces = ["--target", String(first), "--mount", "--uts", "--ipc", "--pid", "--cgroup"];
    const path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    const { stdout, stderr, exitCode } = await execa(
      "nsenter",
      [...namespaces, "--root", "env", "-C", "/", "-i", path, ...command],
      { reject: false, input, timeout: runMsMax, killSignal: "SIGKILL" },
    );
    return { stdout, stderr, exitCode };
  }

  #firstProcess(): number | undefined {
    return listProcesses().find(({ parentPid, command }) => {
      return parentPid === this.#child.pid && command.startsWith("/lib/systemd/systemd");
    })?.pid;
  }
}

/** Removes what is empty of the cgroups of a machine. @returns whether any is left. */
function removeCgroups(name: string): boolean {
  const mounts = readFileSync("/proc/self/mounts", "utf8").matchAll(/^\S+ (\S+) cgroup2? /gm);
  let isLeft = false;
  for (const [, mount] of mounts) {
    isLeft = !removeTree(`${mount}/${name}`) || isLeft;
  }
  return isLeft;
}

/** Cgroups are directories whose files go with them. */
function removeTree(path: string): boolean {
  if (!existsSync(path)) {
    return true;
  }
  const inner = readdirSync(path, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  const areGone = inner.map(({ name }) => removeTree(`${path}/${name}`)).every(Boolean);
  try {
    rmdirSync(path);
    return areGone;
  } catch {
    return false;
  }
}
