import { accessSync, closeSync, constants as fsConstants, openSync, statSync } from "node:fs";
import net from "node:net";
import { constants } from "node:os";
import { ErrorKind, errorMessage, FlotillaError } from "#base/errors.ts";
import { errnoText, SystemError } from "./libc.ts";
import { sendSignal } from "./process.ts";
import { openMemoryFile, openPipe } from "./program-streams.ts";
import { reap, spawnInSession } from "./spawn.ts";

const { signals } = constants;

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
  /** After this it is killed, in milliseconds. */
  readonly timeoutMs: number;
  /** Has it killed when it aborts. */
  readonly signal?: AbortSignal | undefined;
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
 * A program without a slash in its path is looked for in the `PATH` of its environment.
 *
 * @throws {@link ProgramFailure} when it ends with a status that is not 0, by a signal, or not in time.
 */
export async function runProgram(run: ProgramRun): Promise<ProgramOutput> {
  const { signal } = run;
  signal?.throwIfAborted();
  const { pid, stdout, stderr } = start(run);
  const printed = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
  const output = (): ProgramOutput => ({
    stdout: Buffer.concat(printed.stdout),
    stderr: Buffer.concat(printed.stderr),
  });
  const givenUp = Promise.withResolvers<never>();
  const giveUp = (kind: ErrorKind, message: string): void => {
    givenUp.reject(new ProgramFailure(kind, message, output()));
    // It may have ended this moment, and a thread of the pool may have waited for it already.
    sendSignal(pid, signals.SIGKILL);
    stdout.destroy();
    stderr.destroy();
  };
  let printedBytes = 0;
  const collect = (stream: net.Socket, into: Buffer[]): Promise<void> =>
    new Promise((resolve) => {
      stream.on("data", (chunk: Buffer) => {
        into.push(chunk);
        printedBytes += chunk.length;
        if (printedBytes > outputBytesMax) {
          giveUp(ErrorKind.ResourceExhausted, `${run.path} prints more than ${outputBytesMax} bytes`);
        }
      });
      stream.once("error", () => undefined);
      stream.once("close", () => resolve());
    });
  const abort = (): void => giveUp(ErrorKind.Canceled, `signal: ${goSignalName(signals.SIGKILL)}`);
  signal?.addEventListener("abort", abort, { once: true });
  const deadline = setTimeout(() => giveUp(ErrorKind.DeadlineExceeded, ErrorKind.DeadlineExceeded), run.timeoutMs);
  const ended = Promise.all([collect(stdout, printed.stdout), collect(stderr, printed.stderr)]).then(() => reap(pid));
  try {
    const end = await Promise.race([ended, givenUp.promise]);
    if ("signal" in end || end.status !== 0) {
      const how = "signal" in end ? `signal: ${goSignalName(end.signal)}` : `exit status ${end.status}`;
      throw new ProgramFailure(ErrorKind.Unknown, how, output());
    }
    return output();
  } finally {
    clearTimeout(deadline);
    signal?.removeEventListener("abort", abort);
  }
}

interface RunningProgram {
  readonly pid: number;
  readonly stdout: net.Socket;
  readonly stderr: net.Socket;
}

function start({ path, args, directory, environment, input }: ProgramRun): RunningProgram {
  const ours: number[] = [];
  const theirs: number[] = [];
  try {
    theirs.push(input === undefined ? openSync("/dev/null", "r") : openMemoryFile(input));
    for (let pipes = 0; pipes < 2; pipes++) {
      const { reader, writer } = openPipe();
      ours.push(reader);
      theirs.push(writer);
    }
    const pid = spawnInSession({
      path: findProgram(path, environment["PATH"] ?? ""),
      args: [path, ...args],
      environment: Object.entries(environment).flatMap(([name, value]) =>
        value === undefined ? [] : `${name}=${value}`,
      ),
      directory,
      streams: theirs,
    });
    const [stdout, stderr] = ours.map((fd) => new net.Socket({ fd, readable: true, writable: false }));
    return { pid, stdout: stdout as net.Socket, stderr: stderr as net.Socket };
  } catch (error) {
    ours.forEach((descriptor) => closeSync(descriptor));
    const text = error instanceof SystemError ? errnoText(error.errno) : errorMessage(error);
    const nothing = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };
    throw new ProgramFailure(ErrorKind.Unknown, `fork/exec ${path}: ${text}`, nothing, { cause: error });
  } finally {
    theirs.forEach((descriptor) => closeSync(descriptor));
  }
}

/** Where a program is, as execvp(3) finds it; what is nowhere stays as it is. */
function findProgram(name: string, path: string): string {
  if (name.includes("/")) {
    return name;
  }
  const candidates = path.split(":").map((directory) => `${directory || "."}/${name}`);
  return candidates.find(isExecutable) ?? name;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, fsConstants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
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

function goSignalName(number: number): string {
  const name = (Object.keys(signals) as NodeJS.Signals[]).find((each) => signals[each] === number);
  return (name === undefined ? undefined : goSignalNames[name]) ?? `signal ${number}`;
}
