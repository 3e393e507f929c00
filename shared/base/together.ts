/**
 * Waits for works that go on side by side until all are over, so that nothing goes on behind whoever undoes them.
 *
 * @returns What each came to, in their order.
 * @throws What the first in their order failed with.
 */
export async function together<const T extends readonly Promise<unknown>[]>(
  works: T,
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  await Promise.allSettled(works);
  return await Promise.all(works);
}
