import assert from "node:assert/strict";
import test from "node:test";
import { usesMappedMounts } from "./mapped-mounts.ts";

function uses(spec: object): boolean {
  return usesMappedMounts(Buffer.from(JSON.stringify(spec)));
}

test("mounts with mapped ids are found, mappings of the container itself are none", () => {
  assert.equal(uses({ mounts: [{ destination: "/a", options: ["rbind"] }] }), false);
  assert.equal(uses({ linux: { uidMappings: [{ containerID: 0, hostID: 1, size: 1 }] }, mounts: [] }), false);
  assert.equal(uses({ linux: { gidMappings: [] } }), false);
  assert.equal(uses({ mounts: [{ options: ["rbind", "idmap"] }] }), true);
  assert.equal(uses({ mounts: [{ options: ["ridmap"] }] }), true);
  assert.equal(uses({ mounts: [{ uidMappings: [] }] }), true);
  assert.equal(uses({ mounts: [{ gidMappings: null }] }), false);
});
