import assert from "node:assert/strict";
import test from "node:test";
import { type ErofsTree, erofsMounts } from "./mounts.ts";

const tree: ErofsTree = {
  kind: "active",
  upper: "/s/3/fs",
  work: "/s/3/work",
  image: undefined,
  layers: [],
  mappingOptions: [],
  overlayOptions: ["volatile"],
};
const layer = (id: number, ...options: string[]) => ({ source: `/s/${id}/layer.erofs`, options });
const erofs = (id: number, ...options: string[]) => ({
  type: "erofs",
  source: `/s/${id}/layer.erofs`,
  options: ["ro", "loop", ...options],
});
const image = { path: "/s/3/rwlayer.img", sizeBytes: 4096, user: 0, group: 0 };
const imageMount = {
  type: "mkfs/ext4",
  source: "/s/3/rwlayer.img",
  options: ["X-containerd.mkfs.fs=ext4", "X-containerd.mkfs.size=4096", "rw", "loop"],
};

test("without layers below the own directory is shown, or the one in the own file system", () => {
  assert.deepEqual(erofsMounts(tree), [{ type: "bind", source: "/s/3/fs", options: ["rw", "rbind"] }]);
  assert.deepEqual(erofsMounts({ ...tree, kind: "view", image }), [
    { type: "bind", source: "/s/3/fs", options: ["ro", "rbind"] },
  ]);
  assert.deepEqual(erofsMounts({ ...tree, image: { ...image, user: 5, group: 6 } }), [
    imageMount,
    {
      type: "format/mkdir/bind",
      source: "{{ mount 0 }}/upper",
      options: ["X-containerd.mkdir.path={{ mount 0 }}/upper:0755:5:6", "rw", "rbind"],
    },
  ]);
});

test("a view of one layer is the image alone, and of one that describes several too", () => {
  assert.deepEqual(erofsMounts({ ...tree, kind: "view", layers: [layer(1)] }), [erofs(1)]);
  const merged = { source: "/s/2/fsmeta.erofs", options: ["device=/s/1/layer.erofs", "device=/s/2/layer.erofs"] };
  assert.deepEqual(erofsMounts({ ...tree, kind: "view", layers: [merged] }), [
    { type: "erofs", source: merged.source, options: ["ro", "loop", ...merged.options] },
  ]);
});

test("images are mounted first, and an overlay goes over them", () => {
  const overlay = (...options: string[]) => ({ type: "format/mkdir/overlay", source: "overlay", options });
  const layers = [layer(2), layer(1, "X-containerd.dmverity=/s/1/layer.erofs.dmverity")];
  const lowers = [erofs(2), erofs(1, "X-containerd.dmverity=/s/1/layer.erofs.dmverity")];
  assert.deepEqual(erofsMounts({ ...tree, layers, mappingOptions: ["uidmap=0:1:2"] }), [
    ...lowers,
    overlay("workdir=/s/3/work", "upperdir=/s/3/fs", "uidmap=0:1:2", "lowerdir={{ overlay 0 1 }}", "volatile"),
  ]);
  assert.deepEqual(erofsMounts({ ...tree, kind: "view", layers }), [
    ...lowers,
    overlay("lowerdir={{ overlay 0 1 }}", "volatile"),
  ]);
  assert.deepEqual(erofsMounts({ ...tree, layers: [layer(2)], image }), [
    imageMount,
    erofs(2),
    overlay(
      "X-containerd.mkdir.path={{ mount 0 }}/upper:0755",
      "X-containerd.mkdir.path={{ mount 0 }}/work:0755",
      "workdir={{ mount 0 }}/work",
      "upperdir={{ mount 0 }}/upper",
      "lowerdir={{ mount 1 }}",
      "volatile",
    ),
  ]);
});
