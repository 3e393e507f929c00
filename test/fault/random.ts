/** Choices that come out the same for the same seed. */
export interface Random {
  /** Starts the same choices again when it is set as `FLOTILLA_TEST_SEED`. */
  readonly seed: number;
  /** A whole number from 0 up to, but without, the bound. */
  below(bound: number): number;
  /** One of the values. */
  pick<T>(values: readonly [T, ...T[]]): T;
}

/** Takes the seed from `FLOTILLA_TEST_SEED`, or a new one. @source mulberry32 */
export function seededRandom(): Random {
  const given = process.env["FLOTILLA_TEST_SEED"];
  const seed = given === undefined ? Math.floor(Math.random() * 2 ** 32) : Number(given);
  let state = seed;
  const below = (bound: number): number => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % bound;
  };
  return { seed, below, pick: (values) => values[below(values.length)] ?? values[0] };
}
