import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { mapInParallel } from "./parallel.ts";

test("results keep the order of the items, and no more than the limit run at once", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.nat(5), { maxLength: 30 }), fc.integer({ min: 1, max: 5 }), async (steps, limit) => {
      let running = 0;
      let runningMax = 0;
      const results = await mapInParallel(steps, limit, async (count) => {
        running += 1;
        runningMax = Math.max(runningMax, running);
        for (let step = 0; step < count; step += 1) {
          await Promise.resolve();
        }
        running -= 1;
        return count;
      });
      assert.deepEqual(results, steps);
      assert.ok(runningMax <= limit);
    }),
  );
});
