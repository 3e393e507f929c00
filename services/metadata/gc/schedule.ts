import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { FamilyBuilder, type MetricFamily } from "#fleet/metrics/family.ts";
import { DurationHistogram } from "#fleet/metrics/histogram.ts";

/** Lets a client wait for a collection. */
export interface Collector {
  /**
   * Has a collection run soon, and waits until one has ended that began after this call.
   *
   * @throws {@link FlotillaError} `unknown` `gc failed` when it failed, or what the signal was aborted with.
   */
  collect(signal: AbortSignal): Promise<void>;
}

/** When collections run. @source containerd v2.3.4 plugins/gc/scheduler.go `config` */
export interface SchedulerConfig {
  /** Share of time that collections may take, 0 to 0.5. */
  readonly pauseThreshold: number;
  /** Deletions after which one runs at once; 0 for never. */
  readonly deletionThreshold: number;
  /** Changes after which one runs at the next occasion; 0 for never. */
  readonly mutationThreshold: number;
  readonly scheduleDelayMs: number;
  /** Before the first one; 0 leaves it out. */
  readonly startupDelayMs: number;
}

/** What a collection tells the scheduler. */
export interface RunOutcome {
  readonly busyMs: number;
  readonly unfinished: boolean;
}

const intervalMsDefault = 1_000;
/** A collection counts as this long at least, so that short ones do not come in a row. */
const busyMsMin = 5;
const retryMs = 1_000;

/**
 * Decides when the collector runs: soon after something was deleted or much has changed, at once when a client waits for it,
 * and never so often that it takes more than its share of the time. One runs at a time.
 *
 * @source containerd v2.3.4 plugins/gc/scheduler.go `gcScheduler.run`
 */
export class CollectionScheduler implements Collector, AsyncDisposable {
  #config: SchedulerConfig;
  readonly #run: () => Promise<RunOutcome>;
  readonly #onFailure: (error: unknown) => void;
  #timer: { readonly handle: NodeJS.Timeout; readonly dueMs: number } | undefined;
  #running: Promise<void> | undefined;
  readonly #durations = new DurationHistogram();
  #succeeded = 0;
  #failed = 0;
  #stopped = false;
  #waiters: PromiseWithResolvers<void>[] = [];
  #intervalMs = intervalMsDefault;
  #busyMs = 0;
  #collections = 0;
  #deletionPending = false;
  #deletions = 0;
  #mutations = 0;

  constructor(config: SchedulerConfig, run: () => Promise<RunOutcome>, onFailure: (error: unknown) => void) {
    this.#config = config;
    this.#run = run;
    this.#onFailure = onFailure;
  }

  /** Begins with the first collection. */
  start(): void {
    if (this.#config.startupDelayMs > 0) {
      this.#schedule(this.#config.startupDelayMs);
    }
  }

  /** Goes by another configuration from now on. */
  configure(config: SchedulerConfig): void {
    this.#config = config;
    this.#consider();
  }

  /** Counts a change. @param deletions - What it removed. */
  noteMutation(deletions: number): void {
    this.#deletionPending ||= deletions > 0;
    this.#mutations += 1;
    if (this.#deletionPending) {
      this.#deletions += 1;
    }
    this.#consider();
  }

  async collect(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#stopped) {
      throw failure(ErrorKind.Unavailable, "the collector is stopping");
    }
    const waiter = Promise.withResolvers<void>();
    const giveUp = (): void => waiter.reject(signal.reason);
    signal.addEventListener("abort", giveUp, { once: true });
    this.#waiters.push(waiter);
    this.#consider();
    try {
      await waiter.promise;
    } finally {
      signal.removeEventListener("abort", giveUp);
      this.#waiters = this.#waiters.filter((other) => other !== waiter);
    }
  }

  /** How many collections there were, and how long they took. @source containerd v2.3.4 plugins/gc/metrics.go */
  families(): MetricFamily[] {
    const durations = new FamilyBuilder(
      "histogram",
      "containerd_gc_gc_seconds",
      "duration of gc scheduler collections",
    );
    this.#durations.addTo(durations, "");
    return [
      new FamilyBuilder("counter", "containerd_gc_collections_total", "counter of gc scheduler collections")
        .add({ status: "success" }, this.#succeeded)
        .add({ status: "fail" }, this.#failed),
      durations,
    ];
  }

  /** Ends when the collection that is running has ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    this.#cancel();
    for (const waiter of this.#waiters) {
      waiter.reject(failure(ErrorKind.Unavailable, "the collector is stopping"));
    }
    await this.#running;
  }

  /** Schedules a collection if there is a reason for one. */
  #consider(): void {
    const { deletionThreshold, scheduleDelayMs } = this.#config;
    const isUrgent = this.#waiters.length > 0 || (deletionThreshold > 0 && this.#deletions >= deletionThreshold);
    if (this.#stopped || this.#running !== undefined) {
      return;
    }
    if (isUrgent) {
      this.#schedule(scheduleDelayMs);
    } else if (this.#isDue() && this.#timer === undefined) {
      this.#schedule(this.#intervalMs);
    }
  }

  #isDue(): boolean {
    const { mutationThreshold } = this.#config;
    return this.#deletions > 0 || (mutationThreshold > 0 && this.#mutations >= mutationThreshold);
  }

  /** Sets the time of the next collection, unless it is sooner already. */
  #schedule(delayMs: number): void {
    const dueMs = performance.now() + delayMs;
    if (this.#timer !== undefined && this.#timer.dueMs <= dueMs) {
      return;
    }
    this.#cancel();
    const handle = setTimeout(() => {
      this.#timer = undefined;
      this.#running = this.#collect().finally(() => {
        this.#running = undefined;
        this.#consider();
      });
    }, delayMs);
    this.#timer = { handle, dueMs };
  }

  #cancel(): void {
    clearTimeout(this.#timer?.handle);
    this.#timer = undefined;
  }

  async #collect(): Promise<void> {
    const waiters = this.#waiters;
    this.#waiters = [];
    this.#deletionPending = false;
    this.#deletions = 0;
    this.#mutations = 0;
    try {
      const beganMs = performance.now();
      const { busyMs, unfinished } = await this.#run();
      this.#durations.observe((performance.now() - beganMs) / 1000);
      this.#succeeded += 1;
      this.#adapt(busyMs);
      if (unfinished) {
        this.#deletions += 1;
      }
      for (const waiter of waiters) {
        waiter.resolve();
      }
    } catch (error) {
      this.#failed += 1;
      this.#onFailure(error);
      this.#intervalMs = Math.max(this.#intervalMs, retryMs);
      this.#deletions += 1;
      for (const waiter of waiters) {
        waiter.reject(new FlotillaError(ErrorKind.Unknown, "gc failed", { cause: error }));
      }
    }
  }

  /** Spaces collections so that they take no more than their share of the time, on average. */
  #adapt(busyMs: number): void {
    const { pauseThreshold } = this.#config;
    this.#busyMs += busyMs;
    this.#collections += 1;
    if (pauseThreshold > 0) {
      const averageMs = Math.max(this.#busyMs / this.#collections, busyMsMin);
      this.#intervalMs = averageMs / pauseThreshold - averageMs;
    }
  }
}
