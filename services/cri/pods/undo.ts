import { errorMessage } from "#base/errors.ts";
import type { Logger } from "#fleet/log.ts";

/** What is to be undone when something does not come about: the last step first. */
export class Undo {
  readonly #steps: { readonly what: string; readonly undo: () => Promise<void> }[] = [];

  /** Notes how to undo what is about to be done or was done. */
  add(what: string, undo: () => Promise<void>): void {
    this.#steps.push({ what, undo });
  }

  /**
   * Undoes everything. After a step that fails the rest is left, since what could not be undone stands on it.
   *
   * @returns Whether everything is undone.
   */
  async run(log: Logger, fields: Readonly<Record<string, unknown>>): Promise<boolean> {
    for (const { what, undo } of this.#steps.toReversed()) {
      try {
        await undo();
      } catch (error) {
        log.error({ ...fields, err: error }, `failed to undo ${what}: ${errorMessage(error)}`);
        return false;
      }
    }
    return true;
  }
}
