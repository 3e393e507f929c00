import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, failure, isFailure } from "#base/errors.ts";
import type { StoredEvent } from "./bus.ts";
import type { RecentEvents } from "./recent-events.ts";
import type { Page } from "./stored-events.ts";

/** Where the events of a subscriber come from. */
export interface EventSources {
  readonly recent: RecentEvents;
  /** Reads what was stored after a sequence number. */
  readonly readPage: (after: number) => Promise<Page>;
  /** Gets where the subscriber stands, for as long as there is one. */
  readonly cursors: Set<{ sequence: number }>;
  /** Time between two tries to read while the store is away, in milliseconds. */
  readonly retryMs: number;
}

/** Where a subscriber starts. */
export interface FollowOptions {
  /** Sequence number of the last event that it does not want. */
  readonly after: number;
  /** Whether what is no longer kept when the store is first read was never promised. */
  readonly mayMiss: boolean;
  readonly signal: AbortSignal;
}

/**
 * The events after some point, and then those that come, until the signal aborts: from memory as far as they are there, from the store where not.
 *
 * @throws {@link FlotillaError} `data_loss` when events that were promised are no longer kept.
 */
export async function* followEvents(
  { recent, readPage, cursors, retryMs }: EventSources,
  { after, mayMiss, signal }: FollowOptions,
): AsyncGenerator<readonly StoredEvent[]> {
  const cursor = { sequence: after };
  let promised = !mayMiss;
  cursors.add(cursor);
  try {
    while (!signal.aborted) {
      const next = recent.after(cursor.sequence);
      if (next.kind === "events") {
        yield next.events;
        // Counted as behind until the reader comes for more.
        cursor.sequence = next.events.at(-1)?.sequence ?? cursor.sequence;
        recent.release(leastOf(cursors));
      } else if (next.kind === "none") {
        await recent.news(cursor.sequence, signal);
      } else {
        const page = await untilAborted(
          retryWhileAway(() => readPage(cursor.sequence), retryMs, signal),
          signal,
        );
        if (page === undefined) {
          return;
        }
        if (promised && page.firstKept > cursor.sequence + 1) {
          const missing = `${cursor.sequence + 1} to ${page.firstKept - 1}`;
          throw failure(ErrorKind.DataLoss, `events ${missing} are no longer kept`);
        }
        promised = true;
        yield page.events;
        cursor.sequence = page.upTo;
      }
    }
  } finally {
    cursors.delete(cursor);
    recent.release(leastOf(cursors));
  }
}

function leastOf(cursors: Iterable<{ readonly sequence: number }>): number {
  let least = Number.POSITIVE_INFINITY;
  for (const { sequence } of cursors) {
    least = Math.min(least, sequence);
  }
  return least;
}

/** Reads a page, again and again while the store is away. */
async function retryWhileAway(
  readPage: () => Promise<Page>,
  retryMs: number,
  signal: AbortSignal,
): Promise<Page | undefined> {
  while (!signal.aborted) {
    try {
      return await readPage();
    } catch (error) {
      if (!isFailure(error, ErrorKind.Unavailable)) {
        throw error;
      }
      await delay(retryMs, undefined, { signal }).catch(() => undefined);
    }
  }
  return undefined;
}

/** Waits for a promise, or for the signal; undefined in the latter case. */
export async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  const aborted = Promise.withResolvers<undefined>();
  const onAbort = (): void => aborted.resolve(undefined);
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) {
    onAbort();
  }
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
