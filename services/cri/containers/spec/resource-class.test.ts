import assert from "node:assert/strict";
import test from "node:test";
import { type ClassWishes, chooseClasses } from "./resource-class.ts";

test("a container that asks for a class is refused where there are none, unless that is to be passed over", () => {
  const refuse = (wishes: Partial<ClassWishes>) => () =>
    chooseClasses({
      containerName: "c",
      annotations: {},
      podAnnotations: {},
      blockIoClasses: undefined,
      ignoresBlockIo: false,
      ignoresRdt: false,
      ...wishes,
    });
  assert.doesNotThrow(refuse({ podAnnotations: { "rdt.resources.beta.kubernetes.io/container.other": "gold" } }));
  const own = { "io.kubernetes.cri.blockio-class": "slow" };
  const podAnnotations = {
    "blockio.resources.beta.kubernetes.io/pod": "pod",
    "blockio.resources.beta.kubernetes.io/container.c": "named",
  };
  for (const [wishes, name] of [
    [{ annotations: own, podAnnotations }, "slow"],
    [{ podAnnotations }, "named"],
  ] as const) {
    assert.throws(refuse(wishes), {
      message: `failed to set blockio class: blockio disabled, refusing to set blockio class of container "c" to "${name}"`,
    });
    assert.doesNotThrow(refuse({ ...wishes, ignoresBlockIo: true }));
  }
  const gold = { podAnnotations: { "rdt.resources.beta.kubernetes.io/pod": "gold" } };
  assert.throws(refuse(gold), { message: 'failed to set RDT class: RDT not initialized, class "gold" not available' });
  assert.doesNotThrow(refuse({ ...gold, ignoresRdt: true }));
});

test("a container gets the class of block I/O that it asks for, and is refused where there is none of that name", () => {
  const blockIoClasses = new Map([["slow", { weight: 10 }]]);
  const choose = (name: string) =>
    chooseClasses({
      containerName: "c",
      annotations: { "io.kubernetes.cri.blockio-class": name },
      podAnnotations: {},
      blockIoClasses,
      ignoresBlockIo: true,
      ignoresRdt: false,
    });
  assert.deepEqual(choose("slow"), { weight: 10 });
  assert.equal(choose(""), undefined);
  assert.throws(() => choose("fast"), { message: 'no OCI BlockIO parameters for class "fast"' });
});
