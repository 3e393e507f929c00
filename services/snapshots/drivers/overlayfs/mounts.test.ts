import assert from "node:assert/strict";
import test from "node:test";
import { overlayMounts } from "./mounts.ts";

const layers = {
  upper: "/s/3/fs",
  work: "/s/3/work",
  mappingOptions: ["uidmap=0:1:2"],
  overlayOptions: ["volatile", "index=off"],
};

test("without parents the own directory is bound", () => {
  for (const [kind, flag] of [
    ["active", "rw"],
    ["view", "ro"],
  ] as const) {
    assert.deepEqual(overlayMounts({ ...layers, kind, parents: [] }), [
      { type: "bind", source: "/s/3/fs", options: ["uidmap=0:1:2", flag, "rbind"] },
    ]);
  }
});

test("a view of one parent binds the parent's directory", () => {
  assert.deepEqual(overlayMounts({ ...layers, kind: "view", parents: ["/s/2/fs"] }), [
    { type: "bind", source: "/s/2/fs", options: ["uidmap=0:1:2", "ro", "rbind"] },
  ]);
});

test("an active snapshot is an overlay with the options in containerd's order", () => {
  assert.deepEqual(overlayMounts({ ...layers, kind: "active", parents: ["/s/2/fs", "/s/1/fs"] }), [
    {
      type: "overlay",
      source: "overlay",
      options: [
        "uidmap=0:1:2",
        "workdir=/s/3/work",
        "upperdir=/s/3/fs",
        "lowerdir=/s/2/fs:/s/1/fs",
        "volatile",
        "index=off",
      ],
    },
  ]);
});

test("a view of several parents is an overlay without upper directory", () => {
  const [mount] = overlayMounts({ ...layers, kind: "view", parents: ["/s/2/fs", "/s/1/fs"] });
  assert.deepEqual(mount?.options, ["uidmap=0:1:2", "lowerdir=/s/2/fs:/s/1/fs", "volatile", "index=off"]);
});
