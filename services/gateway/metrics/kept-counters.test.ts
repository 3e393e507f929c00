import assert from "node:assert/strict";
import test from "node:test";
import { FamilyBuilder, type MetricFamily } from "#fleet/metrics/family.ts";
import { KeptCounters } from "./kept-counters.ts";

function families(calls: number, bytes: number): MetricFamily[] {
  return [
    new FamilyBuilder("counter", "calls_total", "Calls.").add({}, calls),
    new FamilyBuilder("gauge", "bytes", "Memory.").add({}, bytes),
  ];
}

const valuesOf = (told: readonly MetricFamily[]): number[] => told.flatMap(({ values }) => values);

test("counters go on where the run before had left them, gauges do not", () => {
  const counters = new KeptCounters();
  assert.deepEqual(valuesOf(counters.add({ incarnation: "1", families: families(5, 100) })), [5, 100]);
  assert.deepEqual(valuesOf(counters.add({ incarnation: "1", families: families(7, 200) })), [7, 200]);
  assert.deepEqual(valuesOf(counters.add({ incarnation: "2", families: families(1, 50) })), [8, 50]);
  assert.deepEqual(valuesOf(counters.add({ incarnation: "3", families: families(0, 60) })), [8, 60]);
});

test("the counters of a process that rests stand still", () => {
  const counters = new KeptCounters();
  assert.deepEqual(counters.resting(), []);
  counters.add({ incarnation: "1", families: families(5, 100) });
  counters.add({ incarnation: "2", families: families(2, 100) });
  assert.deepEqual(valuesOf(counters.resting()), [7]);
});
