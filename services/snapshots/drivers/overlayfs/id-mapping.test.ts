import assert from "node:assert/strict";
import test from "node:test";
import { findMappedRoot, gidMappingLabel, uidMappingLabel } from "./id-mapping.ts";

const map = (uid: string, gid: string) => findMappedRoot({ [uidMappingLabel]: uid, [gidMappingLabel]: gid });

test("labels without a mapping change nothing", () => {
  assert.equal(findMappedRoot({ other: "0:1:2" }), undefined);
});

test("root is mapped by the range that holds 0, user and group each for itself", () => {
  assert.deepEqual(map("0:1000:65536", "10:1:5,0:2000:1"), { uid: 1000, gid: 2000 });
  assert.deepEqual(findMappedRoot({ [uidMappingLabel]: "0:7:1" }), { uid: 7, gid: 0 });
});

test("labels that cannot be read or leave root out are refused in containerd's words", () => {
  const unreadable = "failed to unmarshal snapshot ID mapped labels: ";
  const unmapped = "failed to find root pair: container ID 0 cannot be mapped to a host ID";
  for (const [label, message] of [
    ["0:1", `${unreadable}input value 0:1 unparsable`],
    ["a:b:c", `${unreadable}input value a:b:c unparsable`],
    ["0:-1:5", `${unreadable}invalid mapping "0:-1:5"`],
    ["0:4294967295:1", `${unreadable}invalid mapping "0:4294967295:1"`],
    ["1:1000:5", unmapped],
    ["0:1000:0", unmapped],
  ] as const) {
    assert.throws(() => map(label, "0:0:1"), { message });
  }
});
