import { ErrorKind, errorMessage, FlotillaError, isFailure, wrapFailure } from "#base/errors.ts";
import { timestampOrZero } from "#base/times.ts";
import { validateIdentifier } from "#containerd/identifier.ts";
import { type Attempt, type Changes, unknownFate } from "#fleet/calls/changes.ts";
import { Tasks } from "#gen/containerd/services/tasks/v1/tasks_pb.ts";
import { type StateResponse, Task as TaskService } from "#gen/containerd/task/v3/shim_pb.ts";
import { Status } from "#gen/containerd/v1/types/task_pb.ts";
import type { Call, Handlers } from "#wire/handler.ts";
import { requireNamespace } from "#wire/headers.ts";
import type { TaskTable } from "../domain/task-table.ts";
import { keepWriters } from "../kept-writers.ts";
import type { Task, TaskLifecycle } from "../lifecycle.ts";
import { findMade } from "../made-task.ts";
import { incarnationOf } from "../shims/bundles.ts";
import { type CreateParts, createTask } from "./create.ts";
import type { Processes, ProcessName } from "./processes.ts";

/** What the methods work with that change something. */
export interface ChangingParts extends CreateParts {
  readonly table: TaskTable<Task>;
  readonly lifecycle: TaskLifecycle;
  readonly processes: Processes;
  readonly changes: Changes;
}

const method = TaskService.method;
const served = Tasks.method;

/** Signals after which a process is as it is after one: KILL, TERM, CONT, STOP, and 0, which is none. */
const repeatableSignals = new Set([0, 9, 15, 18, 19]);

/** How long a start that may have happened already may take, in milliseconds: a runtime that waits for a process that runs waits long. */
const repeatedStartMsMax = 10_000;

/** What a runtime says of a container that it has started. @source opencontainers/runc 1.1 start.go */
const alreadyRunning = "already running";

/** The end of a process, as it was before it was deleted. JSON. */
interface NotedEnd {
  readonly pid: number;
  readonly exitStatus: number;
  /** Seconds and nanoseconds; undefined when nobody knows. */
  readonly exitedAt: readonly [seconds: string, nanos: number] | undefined;
}

/**
 * The methods of the tasks service that change something. Each says what is left to do of a call that is made again after this process died
 * amid it, by what the supervisor tells; where that can't be told the client gets `unavailable`.
 */
export function changingTasks({ processes, changes, ...parts }: ChangingParts) {
  const { table, lifecycle } = parts;
  const ofProcess = ({ containerId, execId = "" }: ProcessName, call: Call): string =>
    `${requireNamespace(call)}/${containerId}/${execId}`;
  const stateOf = ({ containerId, execId = "" }: ProcessName, call: Call): Promise<StateResponse> =>
    processes.call(call, { containerId, execId }, method.state, { id: containerId, execId });

  /** The state of a process, of which the call may have been the end. */
  async function findState(process: ProcessName, call: Call): Promise<StateResponse | undefined> {
    try {
      return await stateOf(process, call);
    } catch (error) {
      if (isFailure(error, ErrorKind.NotFound)) {
        return undefined;
      }
      throw error;
    }
  }

  /** @returns the process id of a process that runs now, or did. */
  async function start(process: ProcessName, call: Call, options?: { readonly timeoutMs: number }): Promise<number> {
    const { containerId, execId = "" } = process;
    const { pid } = await processes.call(call, process, method.start, { id: containerId, execId }, options);
    table.find(requireNamespace(call), containerId)?.ends.began(execId, pid);
    return pid;
  }

  async function startAgain(process: ProcessName, call: Call): Promise<number> {
    const { status, pid } = await stateOf(process, call);
    if (status !== Status.CREATED) {
      return pid;
    }
    if ((process.execId ?? "") !== "") {
      throw unknownFate(`exec process ${process.execId} was started`);
    }
    try {
      return await start(process, call, { timeoutMs: repeatedStartMsMax });
    } catch (error) {
      const now = await stateOf(process, call);
      if (now.status !== Status.CREATED || errorMessage(error).includes(alreadyRunning)) {
        return now.pid;
      }
      throw error;
    }
  }

  /**
   * The end of a process that a former process of ours has deleted for a call, as it was noted then.
   *
   * @returns undefined when it is still there.
   */
  async function findDeleted(process: ProcessName, call: Call, { noted }: Attempt): Promise<NotedEnd | undefined> {
    if (noted === undefined) {
      return undefined;
    }
    const end = noted as NotedEnd;
    return (await findState(process, call))?.pid === end.pid ? undefined : end;
  }

  /** Notes how a process has ended, which nobody knows any more once it is deleted. */
  async function noteEnd(process: ProcessName, call: Call, attempt: Attempt): Promise<void> {
    if (attempt.id === undefined) {
      return;
    }
    const known = (await processes.task(call, process.containerId)).ends.find(process.execId ?? "");
    const state = known ?? (await findState(process, call));
    if (state !== undefined) {
      const { pid, exitStatus, exitedAt } = state;
      attempt.note({
        pid,
        exitStatus,
        exitedAt: exitedAt === undefined ? undefined : [String(exitedAt.seconds), exitedAt.nanos],
      } satisfies NotedEnd);
    }
  }

  return {
    create: changes.once(served.create, undefined, async (request, call, attempt) => {
      const namespace = requireNamespace(call);
      const { containerId } = request;
      if ((await findMade(table, { namespace, id: containerId }, attempt)) !== undefined) {
        return { containerId, pid: (await stateOf({ containerId }, call)).pid };
      }
      using resources = new DisposableStack();
      if (attempt.noted !== undefined) {
        // A shim may have been started for it, and have opened the pipes of the client.
        resources.use(keepWriters(request.stdout, request.stderr));
      }
      const pid = await createTask(parts, {
        namespace,
        request,
        signal: call.signal,
        onMade: async (bundle) => attempt.note(await incarnationOf(bundle)),
      });
      return { containerId, pid };
    }),
    start: changes.once(served.start, ofProcess, async (process, call, { mayBeDone }) => ({
      pid: await (mayBeDone ? startAgain(process, call) : start(process, call)),
    })),
    delete: changes.once(served.delete, ofProcess, async ({ containerId }, call, attempt) => {
      const end = await findDeleted({ containerId }, call, attempt);
      if (end !== undefined) {
        return answerOf(end);
      }
      await noteEnd({ containerId }, call, attempt);
      const { pid, exitStatus, exitedAt } = await lifecycle.delete(await processes.task(call, containerId));
      return { pid, exitStatus, exitedAt: timestampOrZero(exitedAt) };
    }),
    deleteProcess: changes.once(served.deleteProcess, ofProcess, async ({ containerId, execId }, call, attempt) => {
      const deleted = await findDeleted({ containerId, execId }, call, attempt);
      if (deleted !== undefined) {
        return { id: execId, ...answerOf(deleted) };
      }
      await noteEnd({ containerId, execId }, call, attempt);
      const { pid, exitStatus, exitedAt } = await processes.call(call, { containerId, execId }, method.delete, {
        id: containerId,
        execId,
      });
      table.find(requireNamespace(call), containerId)?.ends.forget(execId);
      return { id: execId, pid, exitStatus, exitedAt: timestampOrZero(exitedAt) };
    }),
    kill: changes.once(served.kill, undefined, async ({ containerId, execId, signal, all }, call, { mayBeDone }) => {
      if (mayBeDone && !repeatableSignals.has(signal)) {
        throw unknownFate(`signal ${signal} was sent`);
      }
      const request = { id: containerId, execId, signal, all: all && execId === "" };
      try {
        return await processes.call(call, { containerId, execId }, method.kill, request);
      } catch (error) {
        if (mayBeDone && isFailure(error, ErrorKind.NotFound)) {
          return {};
        }
        throw error;
      }
    }),
    exec: changes.once(served.exec, ofProcess, async (request, call, { mayBeDone }) => {
      const { containerId, execId, stdin, stdout, stderr, terminal, spec } = request;
      if (execId === "") {
        throw new FlotillaError(ErrorKind.InvalidArgument, "exec id cannot be empty");
      }
      const { supervisor } = await processes.task(call, containerId);
      try {
        validateIdentifier(execId);
      } catch (error) {
        throw wrapFailure(error, `invalid exec id ${execId}`);
      }
      if (mayBeDone && (await findState({ containerId, execId }, call)) !== undefined) {
        return {};
      }
      const added = {
        id: containerId,
        execId,
        stdin,
        stdout,
        stderr,
        terminal,
        ...(spec === undefined ? {} : { spec }),
      };
      return supervisor.call(method.exec, added, { signal: call.signal });
    }),
    resizePty: changes.once(served.resizePty, undefined, ({ containerId, execId, width, height }, call) =>
      processes.call(call, { containerId, execId }, method.resizePty, { id: containerId, execId, width, height }),
    ),
    closeIO: changes.once(served.closeIO, undefined, async ({ containerId, execId, stdin }, call) => {
      if (!stdin) {
        await processes.task(call, containerId);
        return {};
      }
      return processes.call(call, { containerId, execId }, method.closeIO, { id: containerId, execId, stdin });
    }),
    pause: changes.once(served.pause, ofProcess, async ({ containerId }, call, { mayBeDone }) => {
      const isDone = mayBeDone && (await stateOf({ containerId }, call)).status === Status.PAUSED;
      return isDone ? {} : processes.call(call, { containerId }, method.pause, { id: containerId });
    }),
    resume: changes.once(served.resume, ofProcess, async ({ containerId }, call, { mayBeDone }) => {
      const isDone = mayBeDone && (await stateOf({ containerId }, call)).status === Status.RUNNING;
      return isDone ? {} : processes.call(call, { containerId }, method.resume, { id: containerId });
    }),
    update: changes.once(served.update, undefined, ({ containerId, resources, annotations }, call) => {
      const request = { id: containerId, annotations, ...(resources === undefined ? {} : { resources }) };
      return processes.call(call, { containerId }, method.update, request);
    }),
  } satisfies Partial<Handlers<typeof Tasks>>;
}

function answerOf({ pid, exitStatus, exitedAt }: NotedEnd) {
  const [seconds, nanos] = exitedAt ?? [];
  return {
    pid,
    exitStatus,
    exitedAt: timestampOrZero(seconds === undefined ? undefined : { seconds: BigInt(seconds), nanos: nanos ?? 0 }),
  };
}
