import { startSide } from "./daemons.ts";
import type { Bench } from "./measurement.ts";
import { interleave } from "./rounds.ts";

const rounds = 6;

/** From the start of the program on empty directories until its health check says SERVING. */
export const bootBench: Bench = {
  name: "boot",
  async run() {
    // Fills the cache of compiled code, as every start but the very first finds it.
    await (await startSide("flotilla"))[Symbol.asyncDispose]();
    const results = await interleave(rounds, async (side) => {
      const startedMs = performance.now();
      await using daemon = await startSide(side);
      const bootMs = performance.now() - startedMs;
      await daemon.stop();
      return { bootMs };
    });
    return [
      {
        what: "daemon start to ready",
        unit: "ms",
        better: "lower",
        target: { kind: "value", bound: 1000 },
        samples: results.bootMs,
      },
    ];
  },
};
