import { type Side, sides } from "./measurement.ts";
import { say } from "./progress.ts";

/** How often something is measured: so many times, or as often as fits, and once at least. */
export type Rounds = number | { readonly max: number; readonly budgetMs: number };

/**
 * Measures both sides in turn, round after round; who comes first changes with every round.
 *
 * @param rounds - With a budget, no round begins that would end after it if it took as long as the one before.
 * @param measure - Gives the values of one side in one round, by name.
 * @returns The values by name and side, in the order of the rounds.
 */
export async function interleave<Name extends string>(
  rounds: Rounds,
  measure: (side: Side, round: number) => Promise<Readonly<Record<Name, number>>>,
): Promise<Record<Name, Record<Side, number[]>>> {
  const results: Partial<Record<Name, Record<Side, number[]>>> = {};
  const { max, budgetMs } = typeof rounds === "number" ? { max: rounds, budgetMs: Number.POSITIVE_INFINITY } : rounds;
  const startedMs = performance.now();
  for (let round = 0, lastMs = 0; round < max; round += 1) {
    const roundStartedMs = performance.now();
    if (roundStartedMs + lastMs - startedMs > budgetMs) {
      break;
    }
    for (const side of round % 2 === 0 ? sides : sides.toReversed()) {
      const values = await measure(side, round);
      say(`round ${round + 1}/${max} ${side}: ${describe(values)}`);
      keep(results, side, values);
    }
    lastMs = performance.now() - roundStartedMs;
  }
  return results as Record<Name, Record<Side, number[]>>;
}

/** Measures both sides at once, round after round: for what waits most of the time, and does not depend on what else the machine does. */
export async function sideBySide<Name extends string>(
  rounds: number,
  measure: (side: Side) => Promise<Readonly<Record<Name, number>>>,
): Promise<Record<Name, Record<Side, number[]>>> {
  const results: Partial<Record<Name, Record<Side, number[]>>> = {};
  for (let round = 0; round < rounds; round += 1) {
    const measured = await Promise.all(sides.map(async (side) => ({ side, values: await measure(side) })));
    for (const { side, values } of measured) {
      say(`round ${round + 1}/${rounds} ${side}: ${describe(values)}`);
      keep(results, side, values);
    }
  }
  return results as Record<Name, Record<Side, number[]>>;
}

function keep<Name extends string>(
  results: Partial<Record<Name, Record<Side, number[]>>>,
  side: Side,
  values: Readonly<Record<Name, number>>,
): void {
  for (const name of Object.keys(values) as Name[]) {
    const samples = results[name] ?? { flotilla: [], containerd: [] };
    samples[side].push(values[name]);
    results[name] = samples;
  }
}

function describe(values: Readonly<Record<string, number>>): string {
  return Object.entries(values)
    .map(([name, value]) => `${name} ${Number(value.toPrecision(3))}`)
    .join(", ");
}
