import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { type Digest, digestOf } from "#containerd/digest.ts";
import { DigestLocks } from "./digest-locks.ts";

const digests = ["a", "b", "c", "d"].map((text) => digestOf(text));

test("holders of a digest never overlap, and nobody waits for ever", async () => {
  const job = fc.array(fc.constantFrom(...digests), { minLength: 1, maxLength: 4 });
  await fc.assert(
    fc.asyncProperty(fc.array(job, { maxLength: 20 }), fc.scheduler(), async (jobs, scheduler) => {
      const locks = new DigestLocks();
      const held = new Set<Digest>();
      const all = Promise.all(
        jobs.map((wanted) =>
          locks.whileHeld(wanted, async () => {
            const own = new Set(wanted);
            for (const digest of own) {
              assert.ok(!held.has(digest));
              held.add(digest);
            }
            await scheduler.schedule(Promise.resolve());
            for (const digest of own) {
              held.delete(digest);
            }
          }),
        ),
      );
      await scheduler.waitFor(all);
      assert.equal(held.size, 0);
    }),
  );
});

test("work that fails gives its locks up", async () => {
  const locks = new DigestLocks();
  const failing = locks.whileHeld(digests, () => Promise.reject(new Error("no")));
  const next = locks.whileHeld(digests, () => Promise.resolve("done"));
  await assert.rejects(failing, /no/);
  assert.equal(await next, "done");
});
