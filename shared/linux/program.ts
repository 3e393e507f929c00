import { spawn } from "node:child_process";
import { constants } from "node:os";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { errnoText } from "#linux/libc.ts";

/** Most that is read of what a program prints; what comes after that ends it. */
const outputBytesMax = 4 * 1024 * 1024;

/** How to run a program. */
export interface ProgramRun {
  readonly path: string;
  readonly args: readonly string[];
  readonly directory?: string;
  /** The whole environment of the program. */
  readonly environment: NodeJS.ProcessEnv;
  /** What it reads from standard input; nothing unless given. */
  readonly input?: Uint8Array | undefined;
  /** After this it is killed. */
  readonly timeoutMs: number;
}

/** What a program printed. */
export interface ProgramOutput {
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

/** A program that could not be started, failed or took too long. The message is how it ended, in Go's words: `exit status 1`. */
export class ProgramFailure extends FlotillaError {
  readonly output: ProgramOutput;

  constructor(kind: ErrorKind, message: string, output: ProgramOutput, options?: ErrorOptions) {
    super(kind, message, options);
    this.name = "ProgramFailure";
    this.output = output;
  }
}

/**
 * Runs a program to its end in a session of its own, so that what it leaves behind outlives this process and its signals.
 *
 * Node's own `spawn` and not execa: a task's time from create to running is mostly programs, and execa adds 2 ms to each.
 *
 * @throws {@link ProgramFailure} when it ends with a status that is not 0, by a signal, or not in time.
 */
export function runProgram(run: ProgramRun): Promise<ProgramOutput> {
  return new Promise((resolve, reject) => {
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    let outputBytes = 0;
    const output = (): ProgramOutput => ({ stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr) });
    const fail = (kind: ErrorKind, message: string, cause?: unknown): void =>
      reject(new ProgramFailure(kind, message, output(), { cause }));

    const program = spawn(run.path, run.args, {
      cwd: run.directory,
      env: run.environment,
      detached: true,
      stdio: ["pipe", "pipe", "pipe"],
    });
    let deadline: NodeJS.Timeout | undefined;
    program.once("error", (error: NodeJS.ErrnoException) => {
      clearTimeout(deadline);
      fail(ErrorKind.Unknown, `fork/exec ${run.path}: ${errnoText(-(error.errno ?? 0))}`, error);
    });
    // Without descriptors or memory Node gives a child that has no streams, and tells the error later.
    if (program.pid === undefined) {
      return;
    }
    const kill = (): void => {
      program.kill("SIGKILL");
      program.stdout.destroy();
      program.stderr.destroy();
    };
    deadline = setTimeout(() => {
      kill();
      fail(ErrorKind.DeadlineExceeded, ErrorKind.DeadlineExceeded);
    }, run.timeoutMs);
    const collect = (into: Buffer[]) => (chunk: Buffer) => {
      into.push(chunk);
      outputBytes += chunk.length;
      if (outputBytes > outputBytesMax) {
        kill();
        fail(ErrorKind.ResourceExhausted, `${run.path} prints more than ${outputBytesMax} bytes`);
      }
    };
    program.stdout.on("data", collect(stdout));
    program.stderr.on("data", collect(stderr));
    // A program that does not read its input breaks the pipe; its exit says whether that matters.
    program.stdin.on("error", () => undefined);
    program.stdin.end(run.input ?? new Uint8Array());
    program.once("close", (status, signal) => {
      clearTimeout(deadline);
      if (status === 0) {
        resolve(output());
      } else {
        fail(ErrorKind.Unknown, status === null ? `signal: ${goSignalName(signal)}` : `exit status ${status}`);
      }
    });
  });
}

/** @source Go syscall/zerrors_linux_amd64.go `signals` */
const goSignalNames: Partial<Record<NodeJS.Signals, string>> = {
  SIGHUP: "hangup",
  SIGINT: "interrupt",
  SIGQUIT: "quit",
  SIGILL: "illegal instruction",
  SIGABRT: "aborted",
  SIGBUS: "bus error",
  SIGFPE: "floating point exception",
  SIGKILL: "killed",
  SIGSEGV: "segmentation fault",
  SIGPIPE: "broken pipe",
  SIGTERM: "terminated",
};

function goSignalName(signal: NodeJS.Signals | null): string {
  const name = signal === null ? undefined : goSignalNames[signal];
  return name ?? `signal ${signal === null ? 0 : constants.signals[signal]}`;
}
