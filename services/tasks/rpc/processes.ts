import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import type { Call } from "#wire/handler.ts";
import { requireNamespace } from "#wire/headers.ts";
import type { Records } from "../domain/ports.ts";
import { type SupervisorCallOptions, SupervisorGone } from "../domain/supervisor.ts";
import type { TaskTable } from "../domain/task-table.ts";
import type { Task } from "../lifecycle.ts";

/** The first process of a task, or an exec of it. */
export interface ProcessName {
  readonly containerId: string;
  readonly execId?: string;
}

/** Finds tasks, and calls their supervisors about processes. */
export class Processes {
  readonly #table: TaskTable<Task>;
  readonly #records: Records;

  constructor(table: TaskTable<Task>, records: Records) {
    this.#table = table;
    this.#records = records;
  }

  /** The task of a container, once it is made where that is under way. @throws `not_found`: the container, or its task. */
  async task(call: Call, id: string): Promise<Task> {
    const namespace = requireNamespace(call);
    const task = this.#table.find(namespace, id) ?? (await this.#table.findOnceMade(namespace, id, call.signal));
    if (task === undefined) {
      await this.#records.requireContainer(namespace, id);
      throw new FlotillaError(ErrorKind.NotFound, `task ${id} not found`);
    }
    return task;
  }

  /** Calls the supervisor about a process. */
  async call<I extends DescMessage, O extends DescMessage>(
    call: Call,
    process: ProcessName,
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options?: SupervisorCallOptions,
  ): Promise<MessageShape<O>> {
    const { supervisor } = await this.task(call, process.containerId);
    try {
      return await supervisor.call(method, request, { signal: call.signal, ...options });
    } catch (error) {
      throw error instanceof SupervisorGone && (process.execId ?? "") !== "" ? supervisorNotFound(error) : error;
    }
  }
}

/** A process whose supervisor is gone counts as not there. */
export function supervisorNotFound(cause: SupervisorGone): FlotillaError {
  return new FlotillaError(ErrorKind.NotFound, ErrorKind.NotFound, { cause });
}
