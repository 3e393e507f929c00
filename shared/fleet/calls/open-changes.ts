import { stateDirectoryOf } from "../process-name.ts";
import type { ProcessContext } from "../run.ts";
import { CallJournal } from "./call-journal.ts";
import { Changes } from "./changes.ts";

/**
 * The changes of a process, by a journal `calls` in its state directory that is opened when the first plugin wants them, and closed with the process.
 *
 * @throws What opening the journal fails with, when they are asked for.
 */
export function changesOf(
  { config, log, resources }: Pick<ProcessContext, "config" | "log" | "resources">,
  process: Parameters<typeof stateDirectoryOf>[1],
): () => Changes {
  let changes: Changes | undefined;
  return () => {
    if (changes === undefined) {
      const journal = CallJournal.open(`${stateDirectoryOf(config.state, process)}/calls`);
      resources.defer(() => journal.close());
      changes = new Changes(journal, log);
    }
    return changes;
  };
}
