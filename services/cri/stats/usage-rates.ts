/** How much time of processors something had used, and when. */
interface Sample {
  readonly atNs: bigint;
  readonly usedNs: bigint;
}

/** Samples that are nearer to each other tell too little, in nanoseconds. */
const distanceNsMin = 100_000_000n;

/**
 * How fast containers and pods use processors, from what they had used at two times.
 *
 * @source containerd v2.3.4 internal/cri/server/container_stats_list.go `getUsageNanoCores`
 */
export class UsageRates {
  readonly #last = new Map<string, { readonly sample: Sample; readonly rate: bigint | undefined }>();

  /**
   * Notes what something has used.
   *
   * @returns Nanoseconds of processors used in a second; undefined as long as there are no two samples.
   */
  note(id: string, sample: Sample): bigint | undefined {
    const last = this.#last.get(id);
    if (last === undefined || sample.usedNs < last.sample.usedNs) {
      this.#last.set(id, { sample, rate: undefined });
      return undefined;
    }
    const distanceNs = sample.atNs - last.sample.atNs;
    if (distanceNs < distanceNsMin) {
      return last.rate;
    }
    const rate = ((sample.usedNs - last.sample.usedNs) * 1_000_000_000n) / distanceNs;
    this.#last.set(id, { sample, rate });
    return rate;
  }

  /** Forgets all but these. */
  keepOnly(ids: ReadonlySet<string>): void {
    for (const id of this.#last.keys()) {
      if (!ids.has(id)) {
        this.#last.delete(id);
      }
    }
  }
}
