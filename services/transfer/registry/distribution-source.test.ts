import assert from "node:assert/strict";
import test from "node:test";
import { addDistributionSource, distributionSourceLabel, findMountSource } from "./distribution-source.ts";
import { parseReference } from "./reference.ts";

const target = parseReference("r.example:5000/team/app:v1");
const label = "containerd.io/distribution.source.r.example";

test("a blob remembers each repository once, without the registry's port", () => {
  assert.equal(distributionSourceLabel(target), label);
  assert.equal(addDistributionSource(undefined, target), "team/app");
  assert.equal(addDistributionSource("z/z,a/b", target), "a/b,team/app,z/z");
  assert.equal(addDistributionSource("team/app", target), "team/app");
});

test("the nearest repository of the same registry is mounted from", () => {
  const find = (value: string): string | undefined => findMountSource(target, { [label]: value });
  assert.equal(find("other/app,team/base,zoo/app"), "team/base");
  assert.equal(find("team/app"), undefined);
  assert.equal(find(""), undefined);
  assert.equal(findMountSource(target, { "containerd.io/distribution.source.docker.io": "team/base" }), undefined);
  assert.equal(findMountSource(target, undefined, { [label]: "from/parent" }), "from/parent");
  assert.equal(findMountSource(target, { [label]: "from/blob" }, { [label]: "team/parent" }), "from/blob");
});
