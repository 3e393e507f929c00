import { setTimeout as delay } from "node:timers/promises";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ErrorKind, failure, isFailure, wrapFailure } from "#base/errors.ts";
import { timestampNow, timestampOrZero } from "#base/times.ts";
import { hostPlatform } from "#config/host-platform.ts";
import type {
  ControllerCreateRequest,
  ControllerPlatformResponseSchema,
  ControllerStartResponseSchema,
  ControllerStatusResponseSchema,
} from "#gen/containerd/services/sandbox/v1/sandbox_pb.ts";
import { CreateTaskRequestSchema } from "#gen/containerd/services/tasks/v1/tasks_pb.ts";
import { Task as TaskService } from "#gen/containerd/task/v3/shim_pb.ts";
import type { MetricSchema } from "#gen/containerd/types/metrics_pb.ts";
import { Status } from "#gen/containerd/v1/types/task_pb.ts";
import type { ContainerRecord, Records } from "../domain/ports.ts";
import { SupervisorGone } from "../domain/supervisor.ts";
import type { TaskTable } from "../domain/task-table.ts";
import type { Task, TaskLifecycle } from "../lifecycle.ts";
import { findMade } from "../made-task.ts";
import type { RootMounts } from "../root-mounts.ts";
import type { WantedTask } from "../rpc/create.ts";
import { incarnationOf } from "../shims/bundles.ts";
import type { SandboxCall, SandboxChange, SandboxEnd, Sandboxer } from "./sandboxer.ts";

/** What sandboxes of pause containers work with. */
export interface PodSandboxParts {
  readonly table: TaskTable<Task>;
  readonly lifecycle: TaskLifecycle;
  /** The pause container has the id of its sandbox. */
  readonly records: Pick<Records, "getContainer">;
  readonly mounts: RootMounts;
  readonly createTask: (wanted: WantedTask) => Promise<number>;
  readonly stateTimeoutMs: number;
}

const killSignal = 9;
/** How long a killed pause container may take to end. */
const endMsMax = 30_000;

/** How often a task that has ended is asked to go, since what holds it up may pass, and the time in between. */
const deleteTriesMax = 3;
const deletePauseMs = 200;

const forgottenPollMs = 20;

/** @source containerd v2.3.4 internal/cri/store/sandbox/status.go `State.String` */
const stateName = { ready: "SANDBOX_READY", notReady: "SANDBOX_NOTREADY" } as const;

const { method } = TaskService;

/**
 * Sandboxes that a pause container keeps alive, whose namespaces the containers of the pod share.
 *
 * The pause container is a container of its own id on record, with its specification and snapshot: whoever wants the sandbox has made it,
 * and removes it afterwards. Here it is run, and nothing is kept that is not on record or on the machine. Whoever waits for it deletes
 * its task when it ends, so that a sandbox has ended for all of its clients at the same time.
 *
 * @source containerd v2.3.4 internal/cri/server/podsandbox (texts and order); decision: services/tasks/README.md#sandboxes
 */
export class PodSandboxer implements Sandboxer {
  readonly #parts: PodSandboxParts;
  readonly #deletions = new WeakMap<Task, Promise<void>>();

  constructor(parts: PodSandboxParts) {
    this.#parts = parts;
  }

  async create(call: SandboxChange, request: ControllerCreateRequest): Promise<void> {
    if (request.sandbox?.extensions["metadata"] === undefined) {
      throw failure(ErrorKind.NotFound, `failed to get sandbox "${call.id}" metadata`);
    }
    if (this.#task(call) !== undefined) {
      throw failure(ErrorKind.AlreadyExists, `sandbox ${call.id} already running`);
    }
    await Promise.resolve();
  }

  async start(change: SandboxChange): Promise<MessageInitShape<typeof ControllerStartResponseSchema>> {
    const { namespace, id } = change;
    const container = await this.#parts.records.getContainer(namespace, id).catch((error: unknown) => {
      throw isFailure(error, ErrorKind.NotFound)
        ? failure(ErrorKind.NotFound, `unable to find pod sandbox with id "${id}"`, { cause: error })
        : error;
    });
    const pid = (await this.#findStarted(change)) ?? (await this.#startTask(change, container));
    const task = this.#task(change);
    const endpoint = task === undefined ? {} : { address: task.supervisor.address, version: task.supervisor.version };
    return { sandboxId: id, pid, createdAt: timestampOrZero(container.createdAt), ...endpoint };
  }

  async #startTask(change: SandboxChange, container: ContainerRecord): Promise<number> {
    const { namespace, id, signal, attempt } = change;
    const rootfs = await this.#parts.mounts(namespace, container);
    const pid = await this.#parts
      .createTask({
        namespace,
        request: create(CreateTaskRequestSchema, { containerId: id, rootfs }),
        signal,
        onMade: async (bundle) => attempt.note(await incarnationOf(bundle)),
      })
      .catch((error: unknown) => {
        throw wrapFailure(error, `failed to create containerd task`);
      });
    try {
      await this.#task(change)?.supervisor.call(method.start, { id }, { signal });
    } catch (error) {
      // Also where the caller is gone. What is left of it then is to be shut down.
      await this.#end({ ...change, signal: AbortSignal.timeout(endMsMax) }).catch(() => undefined);
      throw wrapFailure(error, `failed to start sandbox container task "${id}"`);
    }
    return pid;
  }

  /**
   * The pause container that a former process has started for this call. One that it has only created goes, since a start that is under way
   * can't be told from one that was never asked for.
   *
   * @returns Its process id.
   */
  async #findStarted(change: SandboxChange): Promise<number | undefined> {
    const made = await findMade(this.#parts.table, change, change.attempt);
    if (made === undefined) {
      return undefined;
    }
    const { id, signal } = change;
    const { pid, status } = await made.supervisor.call(method.state, { id }, { signal });
    if (status !== Status.CREATED) {
      return pid;
    }
    await this.#end(change);
    return undefined;
  }

  platform(): Promise<MessageInitShape<typeof ControllerPlatformResponseSchema>["platform"]> {
    return Promise.resolve(hostPlatform());
  }

  stop(call: SandboxCall): Promise<void> {
    return this.#end(call);
  }

  async wait(call: SandboxCall): Promise<SandboxEnd> {
    const task = await this.#taskOnceMade(call);
    if (task === undefined) {
      throw failure(ErrorKind.NotFound, `failed to get exit channel. "${call.id}"`);
    }
    const { exitStatus, exitedAt } = await task.supervisor.call(method.wait, { id: call.id }, { signal: call.signal });
    await this.#delete(task);
    return { exitStatus, exitedAt: timestampOrZero(exitedAt) };
  }

  async status(call: SandboxCall): Promise<MessageInitShape<typeof ControllerStatusResponseSchema>> {
    const { createdAt } = await this.#parts.records.getContainer(call.namespace, call.id).catch((error: unknown) => {
      throw isFailure(error, ErrorKind.NotFound)
        ? failure(ErrorKind.NotFound, `unable to find sandbox "${call.id}"`, { cause: error })
        : error;
    });
    const common = { sandboxId: call.id, createdAt: timestampOrZero(createdAt), extra: {} };
    const task = await this.#taskOnceMade(call);
    if (task === undefined) {
      return { ...common, state: stateName.notReady, exitedAt: timestampOrZero(undefined) };
    }
    const { pid, status, exitedAt } = await task.supervisor.call(
      method.state,
      { id: call.id },
      { signal: call.signal, timeoutMs: this.#parts.stateTimeoutMs },
    );
    const isRunning = status === Status.RUNNING || status === Status.PAUSED || status === Status.PAUSING;
    return {
      ...common,
      pid,
      state: isRunning ? stateName.ready : stateName.notReady,
      exitedAt: timestampOrZero(exitedAt),
      address: task.supervisor.address,
      version: task.supervisor.version,
    };
  }

  shutDown(call: SandboxCall): Promise<void> {
    return this.#end(call);
  }

  async metrics(call: SandboxCall): Promise<MessageInitShape<typeof MetricSchema> | undefined> {
    const task = await this.#taskOnceMade(call);
    if (task === undefined) {
      throw failure(ErrorKind.NotFound, `unable to find sandbox "${call.id}"`);
    }
    const { stats } = await task.supervisor.call(
      method.stats,
      { id: call.id },
      { signal: call.signal, timeoutMs: this.#parts.stateTimeoutMs },
    );
    return { timestamp: timestampNow(), id: call.id, ...(stats === undefined ? {} : { data: stats }) };
  }

  #task({ namespace, id }: SandboxCall): Task | undefined {
    return this.#parts.table.find(namespace, id);
  }

  /** The task, once it is made where that is under way: whoever is told that there is none may take the records away. */
  #taskOnceMade({ namespace, id, signal }: SandboxCall): Promise<Task | undefined> {
    return this.#parts.table.findOnceMade(namespace, id, signal);
  }

  /** Kills the pause container if it runs, waits until it has ended, and deletes its task. */
  async #end(call: SandboxCall): Promise<void> {
    const task = await this.#taskOnceMade(call);
    if (task === undefined) {
      return;
    }
    const { id, signal } = call;
    try {
      await task.supervisor.call(method.kill, { id, signal: killSignal }, { signal });
      await task.supervisor.call(method.wait, { id }, { signal, timeoutMs: endMsMax });
    } catch (error) {
      if (error instanceof SupervisorGone) {
        await this.#forgotten(task);
      }
      // Who waits for its end may have deleted it meanwhile, and its shim may be gone with it.
      if (this.#task(call) === task && !isFailure(error, ErrorKind.NotFound)) {
        throw wrapFailure(error, "failed to kill pod sandbox container");
      }
    }
    await this.#delete(task);
  }

  /** Waits until what a dead shim has left is cleared away, for as long as a living one may take to end. */
  async #forgotten({ namespace, id }: Task): Promise<void> {
    const deadline = performance.now() + endMsMax;
    while (this.#parts.table.find(namespace, id) !== undefined && performance.now() < deadline) {
      await delay(forgottenPollMs);
    }
  }

  /** Deletes a task once, however many want it gone at the same time: the shim ends with the first answer, and would owe the others theirs. */
  #delete(task: Task): Promise<void> {
    const deletion = this.#deletions.get(task) ?? this.#deleteOnce(task);
    this.#deletions.set(task, deletion);
    return deletion;
  }

  async #deleteOnce(task: Task): Promise<void> {
    for (let tries = 1; this.#parts.table.find(task.namespace, task.id) === task; tries += 1) {
      try {
        await this.#parts.lifecycle.delete(task);
      } catch (error) {
        if (isFailure(error, ErrorKind.NotFound)) {
          return;
        }
        if (tries === deleteTriesMax) {
          this.#deletions.delete(task);
          throw error;
        }
        await delay(deletePauseMs);
      }
    }
  }
}
