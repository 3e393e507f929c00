import { ErrorKind, failure } from "#base/errors.ts";

/** A task that the table knows by its names. */
export interface Named {
  readonly namespace: string;
  readonly id: string;
}

/**
 * The tasks of this machine by namespace and id. An id is free, reserved while a task is made, taken, or settling while what
 * a removed task left is cleared away.
 */
export class TaskTable<T extends Named> {
  readonly #tasks = new Map<string, T>();
  readonly #reserved = new Map<string, PromiseWithResolvers<void>>();
  readonly #settling = new Map<string, Promise<void>>();

  /** The task, or undefined. */
  find(namespace: string, id: string): T | undefined {
    return this.#tasks.get(keyOf(namespace, id));
  }

  /**
   * The task, or undefined. While one is made nobody knows which, so that is waited for.
   *
   * @param signal - Ends the waiting.
   * @throws The reason of the signal.
   */
  async findOnceMade(namespace: string, id: string, signal?: AbortSignal): Promise<T | undefined> {
    const key = keyOf(namespace, id);
    for (let making = this.#reserved.get(key); making !== undefined; making = this.#reserved.get(key)) {
      await settledOrAborted(making.promise, signal);
    }
    return this.#tasks.get(key);
  }

  /** The tasks of a namespace, oldest first. */
  list(namespace: string): T[] {
    return [...this.#tasks.values()].filter((task) => task.namespace === namespace);
  }

  /** All tasks. */
  all(): T[] {
    return [...this.#tasks.values()];
  }

  /**
   * Keeps an id for a task that is about to be made, once its predecessor has settled. The caller gives it up by {@link add} or
   * {@link release}.
   *
   * @param signal - Ends the waiting.
   * @throws {@link FlotillaError} `already_exists`, or the reason of the signal.
   */
  async reserve(namespace: string, id: string, signal?: AbortSignal): Promise<void> {
    const key = keyOf(namespace, id);
    await this.whenSettled({ namespace, id }, signal);
    if (this.#tasks.has(key) || this.#reserved.has(key)) {
      throw failure(ErrorKind.AlreadyExists, `task ${id}`);
    }
    this.#reserved.set(key, Promise.withResolvers());
  }

  /** Waits until what had an id is cleared away. @throws The reason of the signal. */
  async whenSettled({ namespace, id }: Named, signal?: AbortSignal): Promise<void> {
    const key = keyOf(namespace, id);
    signal?.throwIfAborted();
    for (let settling = this.#settling.get(key); settling !== undefined; settling = this.#settling.get(key)) {
      await settledOrAborted(settling, signal);
    }
  }

  /** Frees a reserved id. */
  release(namespace: string, id: string): void {
    const key = keyOf(namespace, id);
    this.#reserved.get(key)?.resolve();
    this.#reserved.delete(key);
  }

  /** Puts a task in. */
  add(task: T): void {
    this.release(task.namespace, task.id);
    this.#tasks.set(keyOf(task.namespace, task.id), task);
  }

  /** Takes a task out, unless another has taken its place; tells whether it was there. */
  remove(task: T): boolean {
    const key = keyOf(task.namespace, task.id);
    return this.#tasks.get(key) === task && this.#tasks.delete(key);
  }

  /** Keeps an id from being reserved until the work, which must not reject, is done. */
  settle({ namespace, id }: Named, work: Promise<void>): void {
    const key = keyOf(namespace, id);
    const settling = work.finally(() => {
      if (this.#settling.get(key) === settling) {
        this.#settling.delete(key);
      }
    });
    this.#settling.set(key, settling);
  }

  /** Resolves when nothing settles any more. */
  async settled(): Promise<void> {
    while (this.#settling.size > 0) {
      await Promise.all(this.#settling.values());
    }
  }
}

function settledOrAborted(settling: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const giveUp = (): void => reject(signal?.reason as Error);
    signal?.addEventListener("abort", giveUp, { once: true });
    void settling.then(() => {
      signal?.removeEventListener("abort", giveUp);
      resolve();
    });
  });
}

function keyOf(namespace: string, id: string): string {
  return `${namespace}/${id}`;
}
