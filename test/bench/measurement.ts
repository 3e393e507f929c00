/** The two daemons that are measured side by side. */
export const sides = ["flotilla", "containerd"] as const;
export type Side = (typeof sides)[number];

/** What is to be reached: a bound on our median over containerd's, or on our median itself. */
export type Target =
  | { readonly kind: "ratio"; readonly bound: number }
  | { readonly kind: "value"; readonly bound: number };

/** Something that was measured on both sides, once in each round. */
export interface Measurement {
  /** Names the row of the table; stays the same from run to run. */
  readonly what: string;
  readonly unit: string;
  readonly better: "higher" | "lower";
  readonly target?: Target;
  /** One value for each round and side, in the order of the rounds. */
  readonly samples: Readonly<Record<Side, readonly number[]>>;
}

/** A part of the bench that can be run by itself. */
export interface Bench {
  readonly name: string;
  /** Starts what it needs and ends it again. */
  run(): Promise<Measurement[]>;
}

/** Where the values of a measurement lie. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** @param values - At least one. */
export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((left, right) => left - right);
  const at = (index: number): number => sorted[index] ?? Number.NaN;
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? at(middle) : (at(middle - 1) + at(middle)) / 2;
  return { median, min: at(0), max: at(sorted.length - 1) };
}

/** Our value over containerd's, round by round, so that what slows the machine for a while counts on both sides. */
export function ratiosOf({ samples }: Measurement): number[] {
  return samples.flotilla.map((value, round) => value / (samples.containerd[round] ?? Number.NaN));
}

/** Tells whether a target was reached, or undefined where there is none. */
export function isReached(measurement: Measurement): boolean | undefined {
  const { target, better, samples } = measurement;
  if (target === undefined) {
    return undefined;
  }
  const { median } = spreadOf(target.kind === "ratio" ? ratiosOf(measurement) : samples.flotilla);
  return better === "higher" ? median >= target.bound : median <= target.bound;
}
