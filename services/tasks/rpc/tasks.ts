import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { ErrorKind, FlotillaError, isFailure, wrapFailure } from "#base/errors.ts";
import { timestampOrZero } from "#base/times.ts";
import { validateIdentifier } from "#containerd/identifier.ts";
import type { Logger } from "#fleet/log.ts";
import { Tasks } from "#gen/containerd/services/tasks/v1/tasks_pb.ts";
import { type StateResponse, Task as TaskService } from "#gen/containerd/task/v3/shim_pb.ts";
import type { ProcessSchema } from "#gen/containerd/v1/types/task_pb.ts";
import { bindService, type Call, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import { leaseOf, requireNamespace } from "#wire/headers.ts";
import { mapInParallel } from "../domain/parallel.ts";
import { type SupervisorCallOptions, SupervisorGone } from "../domain/supervisor.ts";
import type { TaskTable } from "../domain/task-table.ts";
import type { Task } from "../lifecycle.ts";
import { checkpointTask } from "./checkpoint.ts";
import { type CreateParts, createTask } from "./create.ts";
import { collectMetrics } from "./metrics.ts";

/** What the service answers from. */
export interface TasksParts extends CreateParts {
  readonly table: TaskTable<Task>;
  readonly log: Logger;
  /** How long asking for the state of a process, and for the metrics of a container, may take, in milliseconds. Read each time. */
  readonly timeouts: { readonly stateMs: number; readonly metricsMs: number };
}

/** How many supervisors are asked for a list at the same time. */
const parallelMax = 16;

const method = TaskService.method;

/**
 * The tasks service: finds the task and asks its supervisor.
 *
 * A task that is known answers without a look at its container's record. An exec that does not exist is found out by the
 * supervisor, with the text that asking for its state first would give.
 *
 * @source containerd v2.3.4 plugins/services/tasks/local.go
 */
export function tasksService(parts: TasksParts): ServiceBinding {
  const { table, lifecycle, records, blobs, log, timeouts } = parts;

  /** The task of a container. @throws `not_found`: the container, or its task. */
  async function getTask(namespace: string, id: string): Promise<Task> {
    const task = table.find(namespace, id);
    if (task === undefined) {
      const container = await records.getContainer(namespace, id);
      throw new FlotillaError(ErrorKind.NotFound, `task ${container.id} not found`);
    }
    return task;
  }

  /** Calls the supervisor about the first process of a task, or about an exec of it. */
  async function callProcess<I extends DescMessage, O extends DescMessage>(
    call: Call,
    process: { readonly containerId: string; readonly execId?: string },
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options?: SupervisorCallOptions,
  ): Promise<MessageShape<O>> {
    const { supervisor } = await getTask(requireNamespace(call), process.containerId);
    try {
      return await supervisor.call(method, request, { signal: call.signal, ...options });
    } catch (error) {
      throw error instanceof SupervisorGone && (process.execId ?? "") !== "" ? supervisorNotFound(error) : error;
    }
  }

  /** The state of a process for Get and List, where a state that can't be had is unknown and not an error. */
  async function describe(task: Task): Promise<MessageInitShape<typeof ProcessSchema>> {
    const { namespace, id, supervisor } = task;
    try {
      return processOf(id, await supervisor.call(method.state, { id }, { timeoutMs: timeouts.stateMs }));
    } catch (error) {
      if (error instanceof SupervisorGone) {
        throw supervisorNotFound(error);
      }
      if (isFailure(error, ErrorKind.NotFound, ErrorKind.Unavailable, ErrorKind.DeadlineExceeded)) {
        throw error;
      }
      log.error({ ns: namespace, container: id, err: error }, "the state of a task is unknown");
      return { id, exitedAt: timestampOrZero(undefined) };
    }
  }

  const handlers = {
    create: async (request, call) => {
      const pid = await createTask(parts, { namespace: requireNamespace(call), request, signal: call.signal });
      return { containerId: request.containerId, pid };
    },
    start: async ({ containerId, execId }, call) => {
      const { pid } = await callProcess(call, { containerId, execId }, method.start, { id: containerId, execId });
      return { pid };
    },
    delete: async ({ containerId }, call) => {
      const { pid, exitStatus, exitedAt } = await lifecycle.delete(await getTask(requireNamespace(call), containerId));
      return { pid, exitStatus, exitedAt: timestampOrZero(exitedAt) };
    },
    deleteProcess: async ({ containerId, execId }, call) => {
      const { pid, exitStatus, exitedAt } = await callProcess(call, { containerId, execId }, method.delete, {
        id: containerId,
        execId,
      });
      return { id: execId, pid, exitStatus, exitedAt: timestampOrZero(exitedAt) };
    },
    get: async ({ containerId, execId }, call) => {
      if (execId === "") {
        return { process: await describe(await getTask(requireNamespace(call), containerId)) };
      }
      const request = { id: containerId, execId };
      const state = await callProcess(call, { containerId, execId }, method.state, request, {
        timeoutMs: timeouts.stateMs,
      });
      return { process: processOf(execId, state) };
    },
    list: async (_request, call) => {
      const described = await mapInParallel(table.list(requireNamespace(call)), parallelMax, async (task) => {
        try {
          return [await describe(task)];
        } catch (error) {
          if (!isFailure(error, ErrorKind.NotFound)) {
            log.error({ ns: task.namespace, container: task.id, err: error }, "a task is left out of a list");
          }
          return [];
        }
      });
      return { tasks: described.flat() };
    },
    kill: async ({ containerId, execId, signal, all }, call) => {
      const request = { id: containerId, execId, signal, all: all && execId === "" };
      return callProcess(call, { containerId, execId }, method.kill, request);
    },
    exec: async ({ containerId, execId, stdin, stdout, stderr, terminal, spec }, call) => {
      if (execId === "") {
        throw new FlotillaError(ErrorKind.InvalidArgument, "exec id cannot be empty");
      }
      const { supervisor } = await getTask(requireNamespace(call), containerId);
      try {
        validateIdentifier(execId);
      } catch (error) {
        throw wrapFailure(error, `invalid exec id ${execId}`);
      }
      const streams = { stdin, stdout, stderr, terminal };
      const request = { id: containerId, execId, ...streams, ...(spec === undefined ? {} : { spec }) };
      return supervisor.call(method.exec, request, { signal: call.signal });
    },
    resizePty: async ({ containerId, execId, width, height }, call) =>
      callProcess(call, { containerId, execId }, method.resizePty, { id: containerId, execId, width, height }),
    closeIO: async ({ containerId, execId, stdin }, call) => {
      if (!stdin) {
        await getTask(requireNamespace(call), containerId);
        return {};
      }
      return callProcess(call, { containerId, execId }, method.closeIO, { id: containerId, execId, stdin });
    },
    pause: async ({ containerId }, call) => callProcess(call, { containerId }, method.pause, { id: containerId }),
    resume: async ({ containerId }, call) => callProcess(call, { containerId }, method.resume, { id: containerId }),
    listPids: async ({ containerId }, call) => {
      const { processes } = await callProcess(call, { containerId }, method.pids, { id: containerId });
      return { processes };
    },
    checkpoint: async (request, call) => {
      const namespace = requireNamespace(call);
      const container = await records.getContainer(namespace, request.containerId);
      const task = await getTask(namespace, request.containerId);
      return { descriptors: await checkpointTask(blobs, task, { container, request, lease: leaseOf(call) }) };
    },
    update: async ({ containerId, resources, annotations }, call) => {
      const request = { id: containerId, annotations, ...(resources === undefined ? {} : { resources }) };
      return callProcess(call, { containerId }, method.update, request);
    },
    metrics: async ({ filters }, call) => {
      const tasks = table.list(requireNamespace(call));
      return { metrics: await collectMetrics(tasks, filters, { log, timeoutMs: timeouts.metricsMs }) };
    },
    wait: async ({ containerId, execId }, call) => {
      const { exitStatus, exitedAt } = await callProcess(call, { containerId, execId }, method.wait, {
        id: containerId,
        execId,
      });
      return { exitStatus, exitedAt: timestampOrZero(exitedAt) };
    },
  } satisfies Handlers<typeof Tasks>;
  return bindService(Tasks, handlers);
}

/** The container's own id is left out of a process, as containerd does. */
function processOf(id: string, state: StateResponse): MessageInitShape<typeof ProcessSchema> {
  const { pid, status, stdin, stdout, stderr, terminal, exitStatus, exitedAt } = state;
  return { id, pid, status, stdin, stdout, stderr, terminal, exitStatus, exitedAt: timestampOrZero(exitedAt) };
}

/** A process whose supervisor is gone counts as not there. */
function supervisorNotFound(cause: SupervisorGone): FlotillaError {
  return new FlotillaError(ErrorKind.NotFound, ErrorKind.NotFound, { cause });
}
