import assert from "node:assert/strict";
import test from "node:test";
import type { ActiveMount } from "../activation.ts";
import { format } from "./format.ts";

const active: ActiveMount[] = Array.from({ length: 5 }, (_, index) => ({
  mount: { type: "erofs", source: `/source/${index}`, target: `${index}`, options: [] },
  mountPoint: `/mp/${index}`,
  mountedAtNs: 0n,
}));
const fill = async (text: string): Promise<string | undefined> =>
  (await format({ type: "overlay", source: "overlay", options: [text] }, active)).options[0];

test("what earlier mounts gave is filled in", async () => {
  assert.deepEqual(
    await format(
      {
        type: "bind",
        source: "{{ mount 0 }}",
        target: "{{target 1}}",
        options: ["plain", "a={{source 2}}:{{ mount 3 }}"],
      },
      active,
    ),
    { type: "bind", source: "/mp/0", target: "1", options: ["plain", "a=/source/2:/mp/3"] },
  );
  const ranges: [string, string][] = [
    ["lowerdir={{ overlay 0 4 }}", "lowerdir=/mp/0:/mp/1:/mp/2:/mp/3:/mp/4"],
    ["lowerdir={{ overlay 4 1 }}", "lowerdir=/mp/4:/mp/3:/mp/2:/mp/1"],
    ["lowerdir={{overlay 2 2}}:/base", "lowerdir=/mp/2:/base"],
  ];
  for (const [text, filled] of ranges) {
    assert.equal(await fill(text), filled);
  }
});

test("what cannot be filled in is refused", async () => {
  const cases: [string, RegExp][] = [
    ["{{ mount 5 }}", /index out of bounds: 5, has 5 active mounts/],
    ["{{ mount -1 }}", /index out of bounds: -1/],
    ["{{ overlay 0 5 }}", /invalid range: 0-5, has 5 active mounts/],
    ["{{ overlay 4 -1 }}", /invalid range: 4--1/],
    ["{{ overlay 1 }}", /wrong number of args for overlay: want 2 got 1/],
    ["{{ mount x }}", /expected integer/],
    ["{{ env 1 }}", /function "env" not defined/],
    ["{{ mount 1", /unclosed action/],
    ["{{}}", /missing value for command/],
  ];
  for (const [text, message] of cases) {
    await assert.rejects(async () => await fill(text), message, text);
  }
});
