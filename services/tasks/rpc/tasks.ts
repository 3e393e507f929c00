import type { MessageInitShape } from "@bufbuild/protobuf";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { timestampOrZero } from "#base/times.ts";
import { type Changes, unknownFate } from "#fleet/calls/changes.ts";
import type { Logger } from "#fleet/log.ts";
import { Tasks } from "#gen/containerd/services/tasks/v1/tasks_pb.ts";
import { type StateResponse, Task as TaskService } from "#gen/containerd/task/v3/shim_pb.ts";
import type { ProcessSchema } from "#gen/containerd/v1/types/task_pb.ts";
import { bindService, type Handlers, type ServiceBinding } from "#wire/handler.ts";
import { leaseOf, requireNamespace } from "#wire/headers.ts";
import { mapInParallel } from "../domain/parallel.ts";
import { SupervisorGone } from "../domain/supervisor.ts";
import type { TaskTable } from "../domain/task-table.ts";
import type { Task } from "../lifecycle.ts";
import { changingTasks } from "./changing-tasks.ts";
import { checkpointTask } from "./checkpoint.ts";
import type { CreateParts } from "./create.ts";
import { collectMetrics } from "./metrics.ts";
import { Processes, supervisorNotFound } from "./processes.ts";

/** What the service answers from. */
export interface TasksParts extends CreateParts {
  readonly table: TaskTable<Task>;
  readonly log: Logger;
  /** Carries out each call once that changes something. */
  readonly changes: Changes;
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
  const { table, records, blobs, log, timeouts, changes } = parts;
  const processes = new Processes(table, records);

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
    ...changingTasks({ ...parts, processes }),
    get: async ({ containerId, execId }, call) => {
      if (execId === "") {
        return { process: await describe(await processes.task(call, containerId)) };
      }
      const request = { id: containerId, execId };
      const state = await processes.call(call, { containerId, execId }, method.state, request, {
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
    listPids: async ({ containerId }, call) => {
      const pids = await processes.call(call, { containerId }, method.pids, { id: containerId });
      return { processes: pids.processes };
    },
    checkpoint: changes.once(Tasks.method.checkpoint, undefined, async (request, call, { noted, note }) => {
      const namespace = requireNamespace(call);
      const container = await records.getContainer(namespace, request.containerId);
      const task = await processes.task(call, request.containerId);
      if (noted !== undefined) {
        throw unknownFate(`task ${task.id} was checkpointed`);
      }
      note("asked for");
      return { descriptors: await checkpointTask(blobs, task, { container, request, lease: leaseOf(call) }) };
    }),
    metrics: async ({ filters }, call) => {
      const tasks = table.list(requireNamespace(call));
      return { metrics: await collectMetrics(tasks, filters, { log, timeoutMs: timeouts.metricsMs }) };
    },
    wait: async ({ containerId, execId }, call) => {
      const { exitStatus, exitedAt } = await processes.call(call, { containerId, execId }, method.wait, {
        id: containerId,
        execId,
      });
      table.find(requireNamespace(call), containerId)?.ends.ended(execId, { exitStatus, exitedAt });
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
