/** Decides when a process that died is started again, and when it counts as failed. */
export interface RestartPolicy {
  /** Wait before the first restart after a run that was long enough. */
  readonly delayMsMin: number;
  /** The wait doubles with each further death, up to this. */
  readonly delayMsMax: number;
  /** A run this long clears the record. */
  readonly healthyRunMs: number;
  /** Deaths in a row that are followed by a restart; the next one is the last. */
  readonly deathsMax: number;
}

/**
 * A process that has served for ten seconds is well again. Thirty restarts in a row take about a minute, so that a daemon with a broken part
 * says so while its operator still looks, and somebody who kills a process again and again does not bring it down. No wait is as long
 * as the 5 s that a shim gives the telling of an event, nor as calls are held.
 */
export const defaultRestartPolicy: RestartPolicy = {
  delayMsMin: 20,
  delayMsMax: 2_000,
  healthyRunMs: 10_000,
  deathsMax: 30,
};

export type RestartDecision = { readonly restartAfterMs: number } | { readonly failed: true };

/** The deaths of one process so far. */
export class DeathRecord {
  readonly #policy: RestartPolicy;
  #deaths = 0;

  constructor(policy: RestartPolicy) {
    this.#policy = policy;
  }

  /**
   * Counts a death and decides what follows.
   *
   * @param ranMs - How long the process ran.
   */
  add(ranMs: number): RestartDecision {
    this.#deaths = ranMs >= this.#policy.healthyRunMs ? 1 : this.#deaths + 1;
    if (this.#deaths > this.#policy.deathsMax) {
      return { failed: true };
    }
    const delayMs = this.#policy.delayMsMin * 2 ** (this.#deaths - 1);
    return { restartAfterMs: Math.min(delayMs, this.#policy.delayMsMax) };
  }
}
