import assert from "node:assert/strict";
import test from "node:test";
import { FamilyBuilder } from "#fleet/metrics/family.ts";
import { formatFamilies } from "./text-format.ts";

test("a family of several processes is described once, and families stand in order", () => {
  const of = (process: string, value: number): FamilyBuilder =>
    new FamilyBuilder("gauge", "b_bytes", "Memory.").add({ process }, value);
  const text = formatFamilies([of("x", 1), new FamilyBuilder("counter", "a_total", "Calls.").add({}, 2), of("y", 3.5)]);
  assert.equal(
    text,
    [
      "# HELP a_total Calls.",
      "# TYPE a_total counter",
      "a_total 2",
      "# HELP b_bytes Memory.",
      "# TYPE b_bytes gauge",
      'b_bytes{process="x"} 1',
      'b_bytes{process="y"} 3.5',
      "",
    ].join("\n"),
  );
});

test("labels are escaped, and a family without values is left out", () => {
  const family = new FamilyBuilder("gauge", "g", "G.").add({ id: 'a"\\\n' }, Number.POSITIVE_INFINITY);
  const text = formatFamilies([family, new FamilyBuilder("gauge", "empty", "E.")]);
  assert.equal(text, '# HELP g G.\n# TYPE g gauge\ng{id="a\\"\\\\\\n"} +Inf\n');
});
