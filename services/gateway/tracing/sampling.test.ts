import assert from "node:assert/strict";
import test from "node:test";
import { newTraceId } from "#fleet/tracing/trace-context.ts";
import { samplingOf } from "./sampling.ts";

const parent = (isSampled: boolean) => ({ traceId: newTraceId(), spanId: "1".repeat(16), isSampled, carried: [] });

test("where nothing is said every trace is recorded, but for those that say no", () => {
  const sampling = samplingOf({});
  assert.equal(sampling(newTraceId(), undefined), true);
  assert.equal(sampling(newTraceId(), parent(true)), true);
  assert.equal(sampling(newTraceId(), parent(false)), false);
});

test("the samplers of the specification", () => {
  const decide = (name: string, of: boolean | undefined): boolean =>
    samplingOf({ OTEL_TRACES_SAMPLER: name })(newTraceId(), of === undefined ? undefined : parent(of));
  assert.deepEqual(
    [undefined, true, false].map((of) => decide("always_on", of)),
    [true, true, true],
  );
  assert.deepEqual(
    [undefined, true, false].map((of) => decide("always_off", of)),
    [false, false, false],
  );
  assert.deepEqual(
    [undefined, true, false].map((of) => decide("parentbased_always_off", of)),
    [false, true, false],
  );
});

test("a share of traces is that share, the same for all who see the trace", () => {
  const sampling = samplingOf({ OTEL_TRACES_SAMPLER: "traceidratio", OTEL_TRACES_SAMPLER_ARG: "0.25" });
  const ids = Array.from({ length: 4_000 }, newTraceId);
  const recorded = ids.filter((id) => sampling(id, undefined));
  assert.ok(recorded.length > 850 && recorded.length < 1_150, String(recorded.length));
  assert.ok(recorded.every((id) => sampling(id, parent(false))));
});
