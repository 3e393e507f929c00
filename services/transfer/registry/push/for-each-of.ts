/**
 * Does something with each item, several at once, in order of their beginning. The first failure aborts what is under way,
 * and is thrown when all of that has ended.
 *
 * @param limits.atOnceMax - 0 for no limit.
 */
export async function forEachOf<T>(
  items: readonly T[],
  limits: { readonly atOnceMax: number; readonly signal: AbortSignal },
  work: (item: T, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  const signal = AbortSignal.any([limits.signal, stop.signal]);
  const left = items.values();
  let failed: { readonly error: unknown } | undefined;
  const workThrough = async (): Promise<void> => {
    for (const item of left) {
      if (failed !== undefined) {
        return;
      }
      try {
        await work(item, signal);
      } catch (error) {
        failed ??= { error };
        stop.abort(error);
      }
    }
  };
  const workers = Math.min(items.length, limits.atOnceMax === 0 ? items.length : limits.atOnceMax);
  await Promise.all(Array.from({ length: workers }, workThrough));
  if (failed !== undefined) {
    throw failed.error;
  }
}
