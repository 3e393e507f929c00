import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, isFailure } from "#base/errors.ts";
import type { Logger } from "#fleet/log.ts";
import type { Container } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import type { CreateTaskRequest } from "#gen/containerd/services/tasks/v1/tasks_pb.ts";
import { Task as TaskService } from "#gen/containerd/task/v3/shim_pb.ts";
import { Status } from "#gen/containerd/v1/types/task_pb.ts";
import { mapInParallel } from "../../domain/parallel.ts";
import type { TaskTable } from "../../domain/task-table.ts";
import type { Task, TaskLifecycle } from "../../lifecycle.ts";
import { BackOff } from "./back-off.ts";
import { isToRestart, restartCount, restartLabels } from "./restart-policy.ts";
import type { RestartRecords } from "./restart-records.ts";
import { restartRequest } from "./restart-request.ts";

export interface RestartMonitorOptions {
  /** Time between two looks, in milliseconds, until it is set to another. */
  readonly intervalMs: number;
  readonly records: RestartRecords;
  readonly table: TaskTable<Task>;
  readonly lifecycle: TaskLifecycle;
  /** Creates a task as if a client had asked for it. */
  createTask(namespace: string, request: CreateTaskRequest, signal: AbortSignal): Promise<unknown>;
  readonly log: Logger;
  readonly stopping: AbortSignal;
}

/** How many containers are seen to at the same time. */
const parallelMax = 4;
/** How long a killed container may take to end, in milliseconds. */
const endMsMax = 30_000;
/** How long asking for a task's state may take, in milliseconds. */
const stateMsMax = 5_000;
/** The longest wait of a container that never lasts, in milliseconds. */
const backOffMsMax = 5 * 60_000;
/** A container that has run this long, in milliseconds, counts as one that lasts. @source docker restartmanager `backoffResetDuration` */
const steadyMs = 10_000;

/**
 * Sees to it that containers run, or do not, as clients want by labels: looks at all of them from time to time, and the first time at the start,
 * so that they come back after a reboot.
 *
 * Unlike containerd's it waits longer and longer for a container that does not last, starts nothing that a user has stopped, leaves alone whose state
 * it can't be told, and gives a client that is about to start a container one interval's time for that.
 *
 * @source containerd v2.3.4 plugins/restart/monitor.go, change.go
 */
export class RestartMonitor {
  readonly #options: RestartMonitorOptions;
  readonly #backOff: BackOff;
  #intervalMs: number;
  /** Aborts when the time to the next look has changed. */
  #intervalChanged = new AbortController();
  /** Containers that had no running task at the last look and may be about to be started by somebody. */
  #unsettled: ReadonlySet<string> | undefined;

  constructor(options: RestartMonitorOptions) {
    this.#options = options;
    this.#intervalMs = options.intervalMs;
    this.#backOff = new BackOff({
      stepMs: () => this.#intervalMs,
      maxMs: backOffMsMax,
      steadyMs,
      now: () => performance.now(),
    });
  }

  /** Changes the time between two looks. The next one comes at once. */
  setInterval(intervalMs: number): void {
    if (intervalMs !== this.#intervalMs) {
      this.#intervalMs = intervalMs;
      this.#intervalChanged.abort();
    }
  }

  /** Looks again and again until the process stops. Never rejects. */
  async run(): Promise<void> {
    const { stopping, log } = this.#options;
    while (!stopping.aborted) {
      try {
        await this.#look();
      } catch (error) {
        if (!stopping.aborted) {
          log.error({ err: error }, "containers are not looked at");
        }
      }
      this.#intervalChanged = new AbortController();
      const signal = AbortSignal.any([stopping, this.#intervalChanged.signal]);
      await delay(this.#intervalMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  async #look(): Promise<void> {
    const { records, stopping } = this.#options;
    const wanted: { readonly namespace: string; readonly container: Container }[] = [];
    for (const namespace of await records.namespaces(stopping)) {
      for (const container of await records.containers(namespace, stopping)) {
        wanted.push({ namespace, container });
      }
    }
    this.#backOff.keepOnly(new Set(wanted.map(({ namespace, container }) => `${namespace}/${container.id}`)));
    const unsettled = new Set<string>();
    await mapInParallel(wanted, parallelMax, async ({ namespace, container }) => {
      try {
        stopping.throwIfAborted();
        await this.#see(namespace, container, unsettled);
      } catch (error) {
        if (!stopping.aborted) {
          this.#options.log.error({ ns: namespace, container: container.id, err: error }, "apply change");
        }
      }
    });
    this.#unsettled = unsettled;
  }

  async #see(namespace: string, container: Container, unsettled: Set<string>): Promise<void> {
    const { table, log } = this.#options;
    const task = table.find(namespace, container.id);
    const wanted = container.labels[restartLabels.status];
    if (wanted === "stopped") {
      if (task !== undefined && (await stateOf(task)).status !== Status.STOPPED) {
        await this.#end(task);
      }
      return;
    }
    if (wanted !== "running") {
      return;
    }
    const state = task === undefined ? undefined : await stateOf(task);
    if (state !== undefined && state.status !== Status.STOPPED && state.status !== Status.CREATED) {
      return;
    }
    const decision = isToRestart(container.labels, state?.exitStatus ?? 0);
    if (decision !== true) {
      if (decision !== false) {
        log.error({ ns: namespace, container: container.id, err: decision }, "policy reconcile");
      }
      return;
    }
    const key = `${namespace}/${container.id}`;
    if (state?.status !== Status.STOPPED) {
      unsettled.add(key);
      // At the first look nobody can be in the middle of it, unless the container is new.
      if (this.#unsettled === undefined ? this.#isNew(container) : !this.#unsettled.has(key)) {
        return;
      }
    }
    if (this.#backOff.isDue(key)) {
      this.#backOff.started(key);
      await this.#start(namespace, container, state?.exitStatus ?? 0);
    }
  }

  #isNew({ createdAt }: Container): boolean {
    return Date.now() - Number(createdAt?.seconds ?? 0n) * 1000 < this.#options.intervalMs;
  }

  async #start(namespace: string, { id, labels }: Container, exitStatus: number): Promise<void> {
    const { records, table, stopping, log } = this.#options;
    const container = await records.noteCount(namespace, id, (restartCount(labels) ?? 0) + 1);
    // What the record says now counts: a user may have stopped it since.
    const isWanted = (record: Container | undefined): boolean =>
      record?.labels[restartLabels.status] === "running" &&
      isToRestart({ ...record.labels, [restartLabels.count]: labels[restartLabels.count] ?? "" }, exitStatus) === true;
    if (container === undefined || !isWanted(container)) {
      return;
    }
    log.info({ ns: namespace, container: id }, "starting a container again");
    const request = restartRequest(container, await records.mounts(namespace, container));
    const last = table.find(namespace, id);
    if (last !== undefined) {
      await this.#end(last);
    }
    await this.#options.createTask(namespace, request, stopping);
    const task = table.find(namespace, id);
    await task?.supervisor.call(TaskService.method.start, { id });
    // Who stopped it while it was being started has found no task to end.
    if (task !== undefined && !isWanted(await records.container(namespace, id))) {
      log.info({ ns: namespace, container: id }, "ending a container that was stopped while it was started again");
      await this.#end(task);
    }
  }

  /** Kills what runs of a task, waits for its end and deletes it. */
  async #end(task: Task): Promise<void> {
    const { id, supervisor } = task;
    const bounds = { timeoutMs: endMsMax };
    try {
      const ended = supervisor.call(TaskService.method.wait, { id }, bounds);
      // Awaited below, and may fail before that.
      ended.catch(() => undefined);
      await supervisor.call(TaskService.method.kill, { id, signal: 9, all: true }, bounds);
      await ended;
    } catch (error) {
      if (!isFailure(error, ErrorKind.NotFound)) {
        this.#options.log.warn({ ns: task.namespace, container: id, err: error }, "a task is not killed");
      }
    }
    await this.#options.lifecycle.delete(task);
  }
}

function stateOf({ id, supervisor }: Task): Promise<{ readonly status: Status; readonly exitStatus: number }> {
  return supervisor.call(TaskService.method.state, { id }, { timeoutMs: stateMsMax });
}
