import assert from "node:assert/strict";
import test from "node:test";
import * as fc from "fast-check";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { digestOf, parseDigest } from "#containerd/digest.ts";
import { BlobAccess } from "./blob-access.ts";
import type { BlobIndex } from "./ports.ts";

const blobs = ["a", "b"].map((text) => digestOf(text));
const namespaces = ["one", "two"];

test("nobody reads what was removed before the read began, and what is known costs no call", async () => {
  const step = fc.record({
    act: fc.constantFrom("add", "remove", "read"),
    namespace: fc.constantFrom(...namespaces),
    digest: fc.constantFrom(...blobs),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.scheduler(), async (steps, scheduler) => {
      const records = new Set<string>();
      let mark = 0n;
      const resolveBlobs = scheduler.scheduleFunction(async (namespace: string, [digest = ""]: readonly string[]) => {
        await Promise.resolve();
        return records.has(`${namespace}/${digest}`) ? [{ digest, sizeBytes: 1n }] : [];
      });
      const access = new BlobAccess({ resolveBlobs } as unknown as BlobIndex, { read: () => mark });
      const reads: Promise<void>[] = [];
      /** Removals of each record that have been answered. */
      const present = new Map<string, boolean>();
      for (const { act, namespace, digest } of steps) {
        const key = `${namespace}/${digest}`;
        if (act === "add") {
          records.add(key);
          present.set(key, true);
        } else if (act === "remove") {
          records.delete(key);
          mark += 1n;
          present.set(key, false);
        } else {
          const wasPresent = present.get(key) === true;
          const known = access.find({ namespace, digest });
          assert.ok(known === undefined || wasPresent, "what is removed is not known any more");
          reads.push(
            access.get({ namespace, digest }).then(
              () => undefined,
              (error: unknown) => assert.ok(isFailure(error, ErrorKind.NotFound)),
            ),
          );
        }
        if (scheduler.count() > 0) {
          await scheduler.waitOne();
        }
      }
      await scheduler.waitAll();
      await Promise.all(reads);
      for (const key of records) {
        const [namespace = "", digest = ""] = key.split("/");
        const wanted = { namespace, digest: parseDigest(digest) };
        const asked = access.get(wanted);
        await scheduler.waitAll();
        await asked;
        assert.ok(access.find(wanted) !== undefined);
      }
    }),
  );
});

test("without a mark nothing is remembered", async () => {
  const [digest] = blobs;
  assert.ok(digest !== undefined);
  const index = { resolveBlobs: () => Promise.resolve([{ digest, sizeBytes: 1n }]) } as unknown as BlobIndex;
  const access = new BlobAccess(index, { read: () => undefined });
  await access.get({ namespace: "one", digest });
  assert.equal(access.find({ namespace: "one", digest }), undefined);
});
