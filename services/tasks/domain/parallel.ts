import { Turns } from "#base/turns.ts";

/**
 * Maps items with a function that takes time, at most `limit` at once.
 *
 * @returns Results in the order of the items. The first failure rejects; what runs then runs on.
 */
export function mapInParallel<T, R>(items: readonly T[], limit: number, map: (item: T) => Promise<R>): Promise<R[]> {
  const turns = new Turns(limit);
  return Promise.all(items.map((item) => turns.run(() => map(item))));
}
