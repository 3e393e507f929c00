import type { Attempt } from "#fleet/calls/changes.ts";
import type { Named, TaskTable } from "./domain/task-table.ts";
import { type Bundle, incarnationOf } from "./shims/bundles.ts";

/**
 * What a former process has made for a call that is made again, known by the bundle that was noted then.
 *
 * @returns undefined when the call has nothing, or what has the id now is another's.
 */
export async function findMade<T extends Named & { readonly bundle: Bundle }>(
  table: TaskTable<T>,
  { namespace, id }: Named,
  { mayBeDone, noted }: Attempt,
): Promise<T | undefined> {
  const found = mayBeDone ? table.find(namespace, id) : undefined;
  return found !== undefined && (await incarnationOf(found.bundle)) === noted ? found : undefined;
}
