import type { MessageShape } from "@bufbuild/protobuf";
import type { Any } from "@bufbuild/protobuf/wkt";
import { ErrorKind, isFailure, wrapFailure } from "#base/errors.ts";
import { Turns } from "#base/turns.ts";
import type { Logger } from "#fleet/log.ts";
import { type DeleteResponseSchema, Task as TaskService } from "#gen/containerd/task/v3/shim_pb.ts";
import { deathEvents } from "./death.ts";
import type { EventLog } from "./domain/ports.ts";
import { ProcessEnds } from "./domain/process-ends.ts";
import type { TaskExit } from "./domain/supervisor.ts";
import type { TaskTable } from "./domain/task-table.ts";
import { HeldOutput } from "./held-output.ts";
import type { TaskMounts } from "./managed-mounts.ts";
import type { Runtime, RuntimeTask, TaskCreation } from "./runtimes/runtime.ts";
import { type Bundle, type Bundles, incarnationOf, markAsDeleted } from "./shims/bundles.ts";

/** A task that is known to this process. */
export interface Task {
  readonly namespace: string;
  readonly id: string;
  readonly bundle: Bundle;
  readonly supervisor: RuntimeTask;
  /** What it has put out and nobody has read, until it is deleted. */
  readonly output: HeldOutput;
  readonly ends: ProcessEnds;
  /** Whether the supervisor belongs to a sandbox and stays when the task goes. */
  readonly sandboxed: boolean;
}

/** What a task is made of besides what its runtime wants. */
export interface NewTask extends Omit<TaskCreation, "spec"> {
  readonly namespace: string;
  readonly id: string;
  readonly spec: Any | undefined;
  readonly sandboxed: boolean;
  /** Told of the bundle before anything else is made; the task waits for it. */
  readonly onMade?: ((bundle: Bundle) => Promise<void>) | undefined;
}

/** How long a supervisor that was found again may take to say where its task writes, in milliseconds. */
const stateMsMax = 10_000;

/** How many bundles are cleaned up at the same time, since each takes programs. */
const parallelCleanUpsMax = 16;

/** What the lifecycle of tasks works with. */
export interface LifecycleParts {
  readonly runtime: Runtime;
  readonly bundles: Bundles;
  readonly mounts: TaskMounts;
  readonly table: TaskTable<Task>;
  readonly events: EventLog;
  readonly log: Logger;
}

/** The version of the task service from which a sandbox's supervisor serves containers without being asked to end with each. */
const sandboxVersionMin = 3;

/**
 * How tasks come and go.
 *
 * Order on the way in: id reserved, bundle made, mounts activated, container created, task known. On the way out: container deleted,
 * mounts taken off, task forgotten, supervisor ended, bundle hidden, bundle erased; a client has its answer after the second step, and
 * the id can be used again after the last. When a supervisor dies: its remains cleaned up, exit and deletion published
 * and acknowledged, bundle hidden, task forgotten, bundle erased.
 *
 * So at each moment a bundle that is there either has a living supervisor or still owes the world its events, and a process
 * that is killed anywhere finds out which by asking. Events that were published twice have one message id.
 */
export class TaskLifecycle {
  readonly #parts: LifecycleParts;
  readonly #cleanUps = new Turns(parallelCleanUpsMax);

  constructor(parts: LifecycleParts) {
    this.#parts = parts;
  }

  /**
   * Creates a task, whose first process then waits to be started.
   *
   * @returns The process id.
   * @throws {@link FlotillaError} `already_exists`, or what the runtime says. Nothing of the task is left then.
   */
  async create(wanted: NewTask): Promise<number> {
    const { table, bundles, mounts, runtime } = this.#parts;
    const { namespace, id, spec, sandboxed } = wanted;
    await table.reserve(namespace, id, wanted.signal);
    let bundle: Bundle;
    try {
      bundle = bundles.create(namespace, id, spec);
    } catch (error) {
      table.release(namespace, id);
      throw error;
    }
    const output = new HeldOutput();
    try {
      await wanted.onMade?.(bundle);
      const rootfs = await mounts.activate(bundle, wanted.request.rootfs ?? [], () =>
        runtime.listHandledMounts(wanted.runtime),
      );
      const request = { ...wanted.request, rootfs };
      output.hold(request.stdout ?? "", request.stderr ?? "");
      const { task: supervisor, pid } = await runtime.create(bundle, { ...wanted, request, spec: spec?.value });
      const ends = new ProcessEnds();
      ends.began("", pid);
      this.#add({ namespace, id, bundle, supervisor, output, ends, sandboxed });
      return pid;
    } catch (error) {
      output.letGo();
      // Who wants the id from now on waits for it and is not refused.
      const removal = this.#logged(bundle, this.#remove(bundle));
      table.settle(bundle, removal);
      table.release(namespace, id);
      await removal;
      throw error;
    }
  }

  /**
   * Deletes a task whose processes have all ended.
   *
   * @throws {@link FlotillaError} what the runtime says. A task whose runtime no longer knows it is forgotten all the same.
   */
  async delete(task: Task): Promise<MessageShape<typeof DeleteResponseSchema>> {
    try {
      const response = await task.supervisor.call(TaskService.method.delete, { id: task.id });
      markAsDeleted(task.bundle);
      await this.#releaseMounts(task.bundle);
      this.#retire(task);
      return response;
    } catch (error) {
      if (isFailure(error, ErrorKind.NotFound)) {
        this.#retire(task);
      }
      throw wrapFailure(error, "failed to delete task");
    }
  }

  /** Takes up a task that a former process has made. */
  adopt(bundle: Bundle, supervisor: RuntimeTask, options: { readonly sandboxed: boolean }): void {
    const { namespace, id } = bundle;
    const output = new HeldOutput();
    const ends = new ProcessEnds();
    this.#add({ namespace, id, bundle, supervisor, output, ends, sandboxed: options.sandboxed });
    // Nobody waits for it: a supervisor that does not answer has its task known all the same.
    supervisor.call(TaskService.method.state, { id }, { timeoutMs: stateMsMax }).then(
      ({ stdout, stderr, pid }) => {
        output.hold(stdout, stderr);
        ends.began("", pid);
      },
      (error: unknown) => {
        this.#parts.log.debug({ ns: namespace, container: id, err: error }, "the output of a task is not held");
      },
    );
  }

  /**
   * Clears away a bundle that a former process has left and that has no living supervisor. The id is settled when that is done.
   *
   * @param options.hadTask - Whether there may have been a task, whose end is then still to be told.
   */
  bury(bundle: Bundle, options: { readonly hadTask: boolean }): void {
    const isOwed = (exit: TaskExit | undefined): boolean => options.hadTask && exit?.pid !== 0;
    this.#parts.table.settle(bundle, this.#logged(bundle, this.#cleanUp(bundle, isOwed)));
  }

  /** Erases a bundle whose removal was interrupted. */
  erase(hidden: Bundle): void {
    this.#parts.table.settle(hidden, this.#logged(hidden, this.#erase(hidden)));
  }

  /** Lets go of all supervisors, so that the containers live on by themselves, and waits for what is being cleared away. */
  async stop(): Promise<void> {
    for (const { supervisor } of this.#parts.table.all()) {
      supervisor.letGo();
    }
    await this.#parts.table.settled();
  }

  #add(task: Task): void {
    const { table, log } = this.#parts;
    table.add(task);
    void task.supervisor.died.then(() => {
      if (table.find(task.namespace, task.id) === task) {
        log.warn({ ns: task.namespace, container: task.id }, "cleaning up after shim disconnected");
        table.settle(task, this.#logged(task, this.#bury(task)));
      }
    });
  }

  async #bury(task: Task): Promise<void> {
    const isKnown = (): boolean => this.#parts.table.find(task.namespace, task.id) === task;
    try {
      await this.#cleanUp(task.bundle, isKnown);
    } finally {
      this.#parts.table.remove(task);
      task.output.letGo();
    }
  }

  /** Forgets a deleted task and clears away what it leaves, after the answer. */
  #retire(task: Task): void {
    const { table } = this.#parts;
    if (table.remove(task)) {
      task.output.letGo();
      table.settle(task, this.#logged(task, this.#clear(task)));
    }
  }

  async #clear({ supervisor, bundle, sandboxed }: Task): Promise<void> {
    if (sandboxed && supervisor.version >= sandboxVersionMin) {
      supervisor.letGo();
    } else {
      await supervisor.shutDown();
    }
    await this.#remove(bundle);
  }

  async #cleanUp(bundle: Bundle, isOwed: (exit: TaskExit | undefined) => boolean): Promise<void> {
    const { runtime, events } = this.#parts;
    const exit = await this.#cleanUps.run(() => runtime.cleanUp(bundle));
    if (isOwed(exit)) {
      await events.publish(deathEvents(bundle, await incarnationOf(bundle), exit));
    }
    await this.#remove(bundle);
  }

  async #remove(bundle: Bundle): Promise<void> {
    await this.#erase(await this.#parts.bundles.hide(bundle));
  }

  async #erase(hidden: Bundle): Promise<void> {
    await this.#releaseMounts(hidden);
    await this.#parts.bundles.erase(hidden);
  }

  /** What cannot be taken off stays for the collector, as soon as the container is gone. */
  async #releaseMounts(bundle: Bundle): Promise<void> {
    try {
      await this.#parts.mounts.release(bundle);
    } catch (error) {
      const { namespace, id } = bundle;
      this.#parts.log.error({ ns: namespace, container: id, err: error }, "failed to deactivate mounts");
    }
  }

  async #logged({ namespace, id }: { namespace: string; id: string }, work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (error) {
      this.#parts.log.error(
        { ns: namespace, container: id, err: error },
        "task is not cleared away; the next start tries again",
      );
    }
  }
}
