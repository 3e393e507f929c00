import { spawn } from "node:child_process";

/** What to run. */
export interface Program {
  readonly command: string;
  readonly args: readonly string[];
  /** Added to the environment of this process. */
  readonly env?: Readonly<Record<string, string>>;
}

/** A child that was started. */
export interface Child {
  /** Undefined when it could not be started. */
  readonly pid: number | undefined;
  /** Resolves, when it has ended, to how: `exit status 1`, `signal SIGKILL`, or why it could not be started. */
  readonly ended: Promise<string>;
  /** Sends a signal, unless it has ended. */
  kill(signal: NodeJS.Signals): void;
}

/** How a child ends that had nothing more to do. */
export const endedWell = "exit status 0";

/**
 * Starts a program in a session of its own, so that a Ctrl-C reaches this process alone. It writes where this process does, and gets SIGKILL
 * from the kernel when this process dies.
 *
 * By `node:child_process` alone: the gateway needs it before anything can be served, and the library that other programs are run with takes 20 ms to
 * load.
 */
export function startChild({ command, args, env }: Program): Child {
  const child = spawn("setpriv", ["--pdeathsig", "KILL", command, ...args], {
    env: { ...process.env, ...env },
    stdio: ["ignore", "inherit", "inherit"],
    detached: true,
  });
  const ended = new Promise<string>((resolve) => {
    child.once("exit", (status, signal) => resolve(signal === null ? `exit status ${status}` : `signal ${signal}`));
    child.on("error", (error) => {
      if (child.pid === undefined) {
        resolve(error.message);
      }
    });
  });
  return { pid: child.pid, ended, kill: (signal) => void child.kill(signal) };
}
