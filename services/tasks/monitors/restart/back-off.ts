export interface BackOffOptions {
  /** The wait after the first quick end, in milliseconds; each further one doubles it. */
  readonly stepMs: () => number;
  /** The longest wait, in milliseconds. */
  readonly maxMs: number;
  /** Who has run this long, in milliseconds, starts from nothing again. */
  readonly steadyMs: number;
  /** Milliseconds of a clock that is never set. */
  readonly now: () => number;
}

interface Start {
  readonly startedMs: number;
  /** Starts in a row that did not last. */
  readonly count: number;
  /** When it was found ended, once it was. */
  foundMs: number | undefined;
}

/** Keeps what ends soon after each start from being started all the time. */
export class BackOff {
  readonly #options: BackOffOptions;
  readonly #starts = new Map<string, Start>();

  constructor(options: BackOffOptions) {
    this.#options = options;
  }

  /** Tells whether something that has ended may be started now. */
  isDue(key: string): boolean {
    const start = this.#starts.get(key);
    if (start === undefined) {
      return true;
    }
    const { now, stepMs, maxMs, steadyMs } = this.#options;
    start.foundMs ??= now();
    return (
      start.foundMs - start.startedMs >= steadyMs ||
      now() - start.foundMs >= Math.min(stepMs() * 2 ** (start.count - 1), maxMs)
    );
  }

  /** Notes that something is started, with success or without. */
  started(key: string): void {
    const { now, steadyMs } = this.#options;
    const last = this.#starts.get(key);
    const lasted = last?.foundMs !== undefined && last.foundMs - last.startedMs >= steadyMs;
    this.#starts.set(key, {
      startedMs: now(),
      count: last === undefined || lasted ? 1 : last.count + 1,
      foundMs: undefined,
    });
  }

  /** Forgets all but these. */
  keepOnly(keys: ReadonlySet<string>): void {
    for (const key of this.#starts.keys()) {
      if (!keys.has(key)) {
        this.#starts.delete(key);
      }
    }
  }
}
