import { type Side, sides } from "./measurement.ts";
import { say } from "./progress.ts";

/**
 * Measures both sides in turn, round after round; who comes first changes with every round.
 *
 * @param measure - Gives the values of one side in one round, by name.
 * @returns The values by name and side, in the order of the rounds.
 */
export async function interleave<Name extends string>(
  rounds: number,
  measure: (side: Side, round: number) => Promise<Readonly<Record<Name, number>>>,
): Promise<Record<Name, Record<Side, number[]>>> {
  const results: Partial<Record<Name, Record<Side, number[]>>> = {};
  for (let round = 0; round < rounds; round += 1) {
    for (const side of round % 2 === 0 ? sides : sides.toReversed()) {
      const values = await measure(side, round);
      say(`round ${round + 1}/${rounds} ${side}: ${describe(values)}`);
      for (const name of Object.keys(values) as Name[]) {
        const samples = results[name] ?? { flotilla: [], containerd: [] };
        samples[side].push(values[name]);
        results[name] = samples;
      }
    }
  }
  return results as Record<Name, Record<Side, number[]>>;
}

function describe(values: Readonly<Record<string, number>>): string {
  return Object.entries(values)
    .map(([name, value]) => `${name} ${Number(value.toPrecision(3))}`)
    .join(", ");
}
