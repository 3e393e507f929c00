import assert from "node:assert/strict";
import test from "node:test";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { digestOf } from "#containerd/digest.ts";
import type { Descriptor } from "../registry/ports.ts";
import { Visits } from "./visits.ts";

const of = (text: string, more: Partial<Descriptor> = {}): Descriptor => ({
  mediaType: "m",
  digest: digestOf(text),
  size: 1,
  ...more,
});

test("what is referred to often is visited once for each way to look at it", async () => {
  const seen: string[] = [];
  const visits = new Visits(async ({ digest, mediaType }) => {
    seen.push(`${mediaType} ${digest}`);
  });
  const platform = { os: "linux", architecture: "amd64" };
  await Promise.all(
    [of("a"), of("a"), of("b"), of("a", { mediaType: "n" }), of("a", { platform })].map((one) => visits.visit(one)),
  );
  assert.equal(seen.length, 4);
});

test("an image without an end is refused, and what has begun of it can be waited for", async () => {
  const visits = new Visits(() => Promise.resolve());
  const outcomes = await Promise.allSettled(
    Array.from({ length: 100_002 }, (_none, index) => visits.visit(of(String(index)))),
  );
  const failed = outcomes.filter(({ status }) => status === "rejected");
  assert.equal(failed.length, 2);
  assert.ok(failed.every((one) => one.status === "rejected" && isFailure(one.reason, ErrorKind.ResourceExhausted)));
});
