import { startSide } from "./daemons.ts";
import type { Bench } from "./measurement.ts";
import { interleave } from "./rounds.ts";

const rounds = 6;

/** From the second start of the program on its directories until its health check says SERVING. */
export const bootBench: Bench = {
  name: "boot",
  async run() {
    const results = await interleave(rounds, async (side) => {
      // The first start fills the cache of compiled code and makes what is made once, such as keys.
      await using daemon = await startSide(side);
      await daemon.stop();
      const startedMs = performance.now();
      await daemon.start();
      return { bootMs: performance.now() - startedMs };
    });
    return [
      {
        what: "daemon start to ready, second start",
        unit: "ms",
        better: "lower",
        target: { kind: "value", bound: 600 },
        samples: results.bootMs,
      },
    ];
  },
};
