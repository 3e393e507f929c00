import type { MetricFamily } from "#fleet/metrics/family.ts";

/** The figures of one run of a process. */
export interface Measured {
  /** Names the run. */
  readonly incarnation: string;
  readonly families: readonly MetricFamily[];
}

/**
 * Keeps what a process has counted when another run of it begins at zero, so that counters of the fleet never go back. What a run had
 * counted since it was asked last is lost with it.
 */
export class KeptCounters {
  #last: Measured | undefined;
  /** What former runs had counted, by series. */
  readonly #kept = new Map<string, number>();

  /** The families of a process with what its former runs had counted. */
  add(measured: Measured): readonly MetricFamily[] {
    const last = this.#last;
    if (last !== undefined && last.incarnation !== measured.incarnation) {
      for (const { series, values } of last.families.filter(isCounted)) {
        for (const [index, each] of series.entries()) {
          this.#kept.set(each, (this.#kept.get(each) ?? 0) + (values[index] ?? 0));
        }
      }
    }
    this.#last = measured;
    return this.#kept.size === 0 ? measured.families : measured.families.map((family) => this.#withKept(family));
  }

  /** What is known of a process that does not run: its counters stand still. */
  resting(): readonly MetricFamily[] {
    return (this.#last?.families ?? []).filter(isCounted).map((family) => this.#withKept(family));
  }

  #withKept(family: MetricFamily): MetricFamily {
    if (!isCounted(family)) {
      return family;
    }
    const { series, values } = family;
    return { ...family, values: values.map((value, index) => value + (this.#kept.get(series[index] ?? "") ?? 0)) };
  }
}

function isCounted({ kind }: MetricFamily): boolean {
  return kind !== "gauge";
}
