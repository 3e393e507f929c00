import { formatDuration } from "#base/duration.ts";
import { ErrorKind, failure } from "#base/errors.ts";
import { type Clock, formatGoTime, timestampOf } from "#base/times.ts";
import { openWritersMax } from "./limits.ts";
import type { IngestName } from "./ports.ts";

/** The right to write an ingest. Disposing of it lets the next writer in. */
export interface IngestLock extends Disposable {
  /** Whether the ingest was ended by someone else while it was locked, so that its files are to be removed at last. */
  readonly isAbandoned: boolean;
}

/** A call that asks the index about a ref and has not locked the ingest yet. */
export interface Opening extends Disposable {
  /** Whether the ingest was ended after the call began, so that what the index answered no longer holds. */
  readonly isStale: boolean;
}

interface Holder {
  readonly sinceNs: bigint;
  isAbandoned: boolean;
}

/** Which ingests this process writes now: one writer for each, and not too many in all. */
export class OpenIngests {
  readonly #clock: Clock;
  readonly #holders = new Map<string, Holder>();
  readonly #openings = new Map<string, Set<{ isStale: boolean }>>();
  #openingCount = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /**
   * Begins to open an ingest. Dispose of it once the ingest is locked.
   *
   * @throws {@link FlotillaError} `resource_exhausted` when 2,048 ingests are open.
   */
  beginOpening(name: IngestName): Opening {
    if (this.#holders.size + this.#openingCount >= openWritersMax) {
      throw failure(ErrorKind.ResourceExhausted, `more than ${openWritersMax} ingests are open for writing`);
    }
    const key = openingKey(name);
    const opening = { isStale: false };
    const openings = this.#openings.get(key) ?? new Set();
    this.#openings.set(key, openings.add(opening));
    this.#openingCount += 1;
    return {
      get isStale() {
        return opening.isStale;
      },
      [Symbol.dispose]: () => {
        this.#openingCount -= openings.delete(opening) ? 1 : 0;
        if (openings.size === 0 && this.#openings.get(key) === openings) {
          this.#openings.delete(key);
        }
      },
    };
  }

  /** Tells those who are opening an ingest that its record has gone. */
  markEnded(name: IngestName): void {
    for (const opening of this.#openings.get(openingKey(name)) ?? []) {
      opening.isStale = true;
    }
  }

  /**
   * Takes the lock of an ingest.
   *
   * @throws {@link FlotillaError} `unavailable` when it is held; clients try again.
   * @source containerd v2.3.4 plugins/content/local/locks.go `tryLock`
   */
  lock(backendRef: string): IngestLock {
    const now = this.#clock();
    const other = this.#holders.get(backendRef);
    if (other !== undefined) {
      throw failure(
        ErrorKind.Unavailable,
        `ref ${backendRef} locked for ${formatDuration(Number(now - other.sinceNs) / 1e6)} (since ${formatGoTime(timestampOf(other.sinceNs))})`,
      );
    }
    const holder: Holder = { sinceNs: now, isAbandoned: false };
    this.#holders.set(backendRef, holder);
    return {
      get isAbandoned() {
        return holder.isAbandoned;
      },
      [Symbol.dispose]: () => {
        if (this.#holders.get(backendRef) === holder) {
          this.#holders.delete(backendRef);
        }
      },
    };
  }

  /** Takes the lock of an ingest to remove it, or leaves that to the writer who holds it. */
  lockOrAbandon(backendRef: string): IngestLock | undefined {
    const holder = this.#holders.get(backendRef);
    if (holder !== undefined) {
      holder.isAbandoned = true;
      return undefined;
    }
    return this.lock(backendRef);
  }
}

function openingKey({ namespace, ref }: IngestName): string {
  return `${namespace}/${ref}`;
}
