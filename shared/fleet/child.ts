import { spawn } from "node:child_process";
import { closeSync, writeFileSync } from "node:fs";
import { Readable } from "node:stream";
import { type Confinement, setprivFlags } from "./confinement.ts";
import { serviceManagerVariables } from "./service-manager.ts";

/** Names the descriptor that a child tells its owner on. */
const tellVariable = "FLOTILLA_TELL_DESCRIPTOR";
const tellDescriptor = 3;

/** What to run. */
export interface Program {
  readonly command: string;
  readonly args: readonly string[];
  /** Added to the environment of this process. */
  readonly env?: Readonly<Record<string, string>>;
  /** What is taken from it; nothing, unless given. */
  readonly confinement?: Confinement | undefined;
  /** Whether it says by {@link tellOwner} that it is ready. */
  readonly tells?: boolean;
}

/** A child that was started. */
export interface Child {
  /** Undefined when it could not be started. */
  readonly pid: number | undefined;
  /** Resolves, when it has ended, to how: `exit status 1`, `signal SIGKILL`, or why it could not be started. */
  readonly ended: Promise<string>;
  /** Resolves to what the child has told its owner, which is nothing when it ended before it did. */
  readonly told: Promise<Buffer>;
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
export function startChild({ command, args, env, confinement, tells = false }: Program): Child {
  const confined = confinement === undefined ? [] : setprivFlags(confinement);
  // "--pdeathsig" holds beyond the change of the user, since setpriv sets it last.
  const child = spawn("setpriv", [...confined, "--pdeathsig", "KILL", command, ...args], {
    env: { ...ownEnvironment(), [tellVariable]: tells ? String(tellDescriptor) : "", ...env },
    stdio: ["ignore", "inherit", "inherit", ...(tells ? (["pipe"] as const) : [])],
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
  return {
    pid: child.pid,
    ended,
    told: readAll(child.stdio[tellDescriptor]),
    kill: (signal) => void child.kill(signal),
  };
}

/** The environment without what a service manager has said to this process alone. */
function ownEnvironment(): NodeJS.ProcessEnv {
  const env = { ...process.env };
  for (const name of serviceManagerVariables) {
    delete env[name];
  }
  return env;
}

/** Tells the process that has started this one that it is ready, and what it wants to know; does nothing when nobody waits for it. Works once. */
export function tellOwner(message: Uint8Array): void {
  if (process.env[tellVariable] === String(tellDescriptor)) {
    delete process.env[tellVariable];
    writeFileSync(tellDescriptor, message);
    closeSync(tellDescriptor);
  }
}

async function readAll(stream: unknown): Promise<Buffer> {
  if (!(stream instanceof Readable)) {
    return Buffer.alloc(0);
  }
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of stream) {
      chunks.push(chunk as Buffer);
    }
  } catch {
    // A child that is gone has told what it has told.
  }
  return Buffer.concat(chunks);
}
