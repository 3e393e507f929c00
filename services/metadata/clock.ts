/** Tells the time in ns since the epoch. */
export type Clock = () => bigint;

/** How far the two clocks may come apart before the wall clock, which was set then, counts again. */
const driftNsMax = 2_000_000n;
const nsPerMs = 1_000_000n;

/** A process that is put to sleep between its looks at the two clocks sees them apart, but hardly so many times in a row. */
const looksMax = 4;

/**
 * Makes a clock of ns resolution out of `Date.now`, which has ms, and the monotonic one, which knows no date.
 * It follows the wall clock when that is set.
 */
export function openClock(): Clock {
  let offsetNs = wallNs() - process.hrtime.bigint();
  return () => {
    let measuredNs = 0n;
    let behindNs = 0n;
    for (let look = 0; look < looksMax; look++) {
      measuredNs = process.hrtime.bigint() + offsetNs;
      behindNs = wallNs() - measuredNs;
      if (behindNs < driftNsMax && behindNs > -driftNsMax) {
        return measuredNs;
      }
    }
    offsetNs += behindNs;
    return measuredNs + behindNs;
  };
}

function wallNs(): bigint {
  return BigInt(Date.now()) * nsPerMs;
}
