import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import type { Client } from "@connectrpc/connect";
import { formatDuration } from "#base/duration.ts";
import { ErrorKind, FlotillaError, isFailure, wrapFailure } from "#base/errors.ts";
import type { Logger } from "#fleet/log.ts";
import type { Tasks } from "#gen/containerd/services/tasks/v1/tasks_pb.ts";
import { fromConnectError } from "#wire/errors.ts";
import { formatExactJson } from "../containers/spec/exact-json.ts";
import type { OciProcess } from "../containers/spec/oci-spec.ts";
import { mergeEnvironment } from "../containers/spec/process-arguments.ts";
import { criCall } from "../peers.ts";
import type { ProcessStreams } from "../streaming/stream-runtime.ts";
import { ExecIo } from "./exec-io.ts";

/** What the tasks process is asked for. */
export type ExecTasks = Pick<
  Client<typeof Tasks>,
  "exec" | "start" | "wait" | "kill" | "deleteProcess" | "closeIO" | "resizePty"
>;

/** What running a process in a container takes. */
export interface ExecParts {
  readonly tasks: ExecTasks;
  /** How long output of a process that has ended is waited for, in ms; 0 for as long as somebody holds its pipes. */
  readonly drainMs: number;
  readonly log: Logger;
}

/** The container that a process joins. */
export interface ExecTarget {
  readonly id: string;
  /** Of the container, in the state that a reboot forgets. */
  readonly stateDirectory: string;
  /** Finds out about the container's own process, whose user, environment and rights are taken over. */
  readonly findProcess: () => Promise<OciProcess>;
}

/** What is run. */
export interface ExecWishes {
  readonly command: readonly string[];
  readonly streams: ProcessStreams;
  /** After how many ms the process is killed; 0 for never. */
  readonly timeoutMs: number;
  /** Kills the process. */
  readonly signal: AbortSignal;
  /** Told what the process is called before anybody is asked for it. */
  readonly onNamed?: (names: ExecNames) => void;
}

/** What a process in a container is called. */
export interface ExecNames {
  readonly containerId: string;
  readonly execId: string;
}

/** @source containerd/typeurl, as containerd v2.3.4 client/container.go registers `specs.Process` */
const processTypeUrl = "types.containerd.io/opencontainers/runtime-spec/1/Process";
const killSignal = 9;
/** How long a killed process may take to end, in ms. */
const killedMsMax = 10_000;
/** Pause before the end of a process is asked for again, when the tasks process is being started again. */
const askAgainMs = 200;

/**
 * Runs a process in a container and resolves with its exit code, when its output has been handed on.
 *
 * The process is removed from the container in any case; one that still runs then is killed.
 *
 * @throws {@link FlotillaError} `deadline_exceeded` after `timeoutMs`; what the tasks process answered; `unknown` when the process left its
 *   pipes to others who hold them for longer than configured.
 * @source containerd v2.3.4 internal/cri/server/container_execsync.go `execInternal`
 */
export async function runInContainer(parts: ExecParts, target: ExecTarget, wishes: ExecWishes): Promise<number> {
  const { tasks } = parts;
  const { streams } = wishes;
  const execId = randomBytes(32).toString("hex");
  const names = { containerId: target.id, execId };
  const [made, found] = await Promise.allSettled([
    ExecIo.create(target.stateDirectory, execId, { terminal: streams.tty, stdin: streams.stdin !== undefined }),
    target.findProcess(),
  ]);
  if (made.status === "rejected") {
    throw made.reason;
  }
  await using io = made.value;
  if (found.status === "rejected") {
    throw found.reason;
  }
  wishes.onNamed?.(names);
  await asked(`failed to create exec "${execId}"`, () =>
    tasks.exec({ ...names, ...io.paths, spec: processSpec(found.value, wishes) }, criCall({ signal: wishes.signal })),
  );
  const process = new ExecProcess(parts, names);
  try {
    await asked(`failed to start exec "${execId}"`, () => tasks.start(names, criCall({ signal: wishes.signal })));
    void resizeTerminal(parts, names, streams);
    if (streams.stdin !== undefined) {
      void feed(parts, names, { io, streams });
    }
    const drained = io.follow(streams.stdout, streams.stderr);
    const exitCode = await process.exitOrTimeout(wishes);
    await process.drain(drained);
    return exitCode;
  } finally {
    await process.remove();
  }
}

/** Ends a process that a former process of ours has run, and takes it out of the container. One that is not there is no error; never rejects. */
export async function endExec(parts: ExecParts, names: ExecNames): Promise<void> {
  await new ExecProcess(parts, names).remove();
}

/** The process as it was made known to the tasks process. */
class ExecProcess {
  readonly #parts: ExecParts;
  readonly #names: ExecNames;
  readonly #waiting = new AbortController();
  readonly #exit: Promise<number>;
  #hasEnded = false;

  constructor(parts: ExecParts, names: ExecNames) {
    this.#parts = parts;
    this.#names = names;
    this.#exit = this.#wait();
    // Who waits for it is told of a failure; when a step before failed, nobody does.
    this.#exit.catch(() => undefined);
  }

  async exitOrTimeout({ timeoutMs, signal }: ExecWishes): Promise<number> {
    const cut = Promise.withResolvers<Error>();
    const timeout = new FlotillaError(
      ErrorKind.DeadlineExceeded,
      `timeout ${formatDuration(timeoutMs)} exceeded: ${ErrorKind.DeadlineExceeded}`,
    );
    const timer = timeoutMs > 0 ? setTimeout(() => cut.resolve(timeout), timeoutMs) : undefined;
    const onAbort = (): void => cut.resolve(new FlotillaError(ErrorKind.Canceled, ErrorKind.Canceled));
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) {
      onAbort();
    }
    try {
      const end = await Promise.race([this.#exit, cut.promise]);
      if (typeof end === "number") {
        return end;
      }
      await this.#kill();
      throw end;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** Waits until the output has been handed on. @source containerd v2.3.4 container_execsync.go `drainExecSyncIO` */
  async drain(drained: Promise<void>): Promise<void> {
    const { drainMs } = this.#parts;
    if (drainMs === 0) {
      await drained;
      return;
    }
    const late = new AbortController();
    const isLate = await Promise.race([
      drained.then(() => false),
      delay(drainMs, true, { signal: late.signal }).catch(() => false),
    ]);
    late.abort();
    if (isLate) {
      const { execId } = this.#names;
      throw new FlotillaError(
        ErrorKind.Unknown,
        `failed to drain exec process "${execId}" io: failed to drain exec process "${execId}" io in ${formatDuration(drainMs)} because io is still held by other processes`,
      );
    }
  }

  /** Takes the process out of the container. Never rejects. */
  async remove(): Promise<void> {
    try {
      if (!this.#hasEnded) {
        await this.#kill();
      }
      await this.#parts.tasks.deleteProcess(this.#names, criCall());
    } catch (thrown) {
      const error = fromConnectError(thrown);
      if (!isFailure(error, ErrorKind.NotFound)) {
        const { containerId, execId } = this.#names;
        this.#parts.log.error({ container: containerId, exec: execId, err: error }, "a process could not be removed");
      }
    } finally {
      this.#waiting.abort();
    }
  }

  async #kill(): Promise<void> {
    try {
      await this.#parts.tasks.kill({ ...this.#names, signal: killSignal }, criCall());
    } catch (thrown) {
      // It may have ended by itself, or may never have been started.
      if (!isFailure(fromConnectError(thrown), ErrorKind.NotFound, ErrorKind.FailedPrecondition)) {
        throw thrown;
      }
    }
    const late = new AbortController();
    await Promise.race([
      this.#exit.catch(() => undefined),
      delay(killedMsMax, undefined, { signal: late.signal }).catch(() => undefined),
    ]);
    late.abort();
  }

  async #wait(): Promise<number> {
    const { signal } = this.#waiting;
    for (;;) {
      try {
        const call = criCall({ timeoutMs: Number.POSITIVE_INFINITY, signal });
        const { exitStatus } = await this.#parts.tasks.wait(this.#names, call);
        this.#hasEnded = true;
        return exitStatus;
      } catch (thrown) {
        const error = fromConnectError(thrown);
        if (!isFailure(error, ErrorKind.Unavailable) || signal.aborted) {
          throw wrapFailure(error, `failed while waiting for exec "${this.#names.execId}"`);
        }
        await delay(askAgainMs);
      }
    }
  }
}

function processSpec(
  process: OciProcess,
  { command, streams }: ExecWishes,
): { typeUrl: string; value: Uint8Array<ArrayBuffer> } {
  const spec: OciProcess = {
    ...process,
    terminal: streams.tty,
    args: [...command],
    ...(streams.tty ? { env: mergeEnvironment(process.env ?? [], ["TERM=xterm"]) } : {}),
  };
  return { typeUrl: processTypeUrl, value: new Uint8Array(Buffer.from(formatExactJson(spec))) };
}

async function asked(context: string, call: () => Promise<unknown>): Promise<void> {
  try {
    await call();
  } catch (thrown) {
    throw wrapFailure(fromConnectError(thrown), context);
  }
}

async function resizeTerminal({ tasks, log }: ExecParts, names: ExecNames, { resizes }: ProcessStreams): Promise<void> {
  for await (const { width, height } of resizes ?? []) {
    await tasks.resizePty({ ...names, width, height }, criCall()).catch((error: unknown) => {
      log.error({ container: names.containerId, exec: names.execId, err: error }, "a terminal could not be resized");
    });
  }
}

/** Hands on the client's input; its end is that of the process, but for a terminal, which has none. */
async function feed(
  { tasks, log }: ExecParts,
  names: ExecNames,
  { io, streams }: { readonly io: ExecIo; readonly streams: ProcessStreams },
): Promise<void> {
  if (streams.stdin === undefined) {
    return;
  }
  await io.feed(streams.stdin);
  // However the input has ended: the shim keeps the pipe open for others, and the process would wait for more for ever.
  if (!streams.tty) {
    await tasks.closeIO({ ...names, stdin: true }, criCall()).catch((thrown: unknown) => {
      if (!isFailure(fromConnectError(thrown), ErrorKind.NotFound)) {
        log.error({ container: names.containerId, exec: names.execId, err: thrown }, "input could not be closed");
      }
    });
  }
}
