/**
 * Work of which one failure ends all the rest.
 *
 * The first failure aborts the signal; whoever waits gets it once everything has ended, and not what it made fail.
 */
export class TaskGroup {
  readonly signal: AbortSignal;
  readonly #controller = new AbortController();
  #failure: { readonly error: unknown } | undefined;

  /** @param signal - Ends the work as well. */
  constructor(signal: AbortSignal) {
    this.signal = AbortSignal.any([signal, this.#controller.signal]);
  }

  /**
   * Waits until all tasks have ended.
   *
   * @throws What failed first in the whole group.
   */
  async all(tasks: readonly Promise<unknown>[]): Promise<void> {
    await Promise.all(
      tasks.map((task) =>
        task.catch((error: unknown) => {
          this.#failure ??= { error };
          this.#controller.abort(this.#failure.error);
        }),
      ),
    );
    if (this.#failure !== undefined) {
      throw this.#failure.error;
    }
  }
}
