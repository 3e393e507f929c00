import type { TaskExit } from "./supervisor.ts";

/** What was seen of the processes of one task, by exec id, "" for the first: so that nobody has to be asked how a process ended before it is deleted. */
export class ProcessEnds {
  readonly #pids = new Map<string, number>();
  readonly #ends = new Map<string, TaskExit>();

  /** A process was created or started. */
  began(execId: string, pid: number): void {
    this.#pids.set(execId, pid);
  }

  /** Somebody has waited for the end of a process. */
  ended(execId: string, end: Omit<TaskExit, "pid">): void {
    const pid = this.#pids.get(execId);
    if (pid !== undefined) {
      this.#ends.set(execId, { ...end, pid });
    }
  }

  /** How a process has ended, if that was seen here. */
  find(execId: string): TaskExit | undefined {
    return this.#ends.get(execId);
  }

  /** A process was deleted. */
  forget(execId: string): void {
    this.#pids.delete(execId);
    this.#ends.delete(execId);
  }
}
