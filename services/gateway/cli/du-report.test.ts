import assert from "node:assert/strict";
import test from "node:test";
import { create } from "@bufbuild/protobuf";
import { Kind, ReferenceSchema, ResourceSchema } from "#gen/flotilla/graph/v1/graph_pb.ts";
import { formatDu } from "./du-command.ts";
import { accountFor } from "./du-report.ts";

const resource = (kind: Kind, key: string, rest: object = {}, namespace = "n") =>
  create(ResourceSchema, { namespace, kind, key, ...rest });
const hold = (holderKind: Kind, holder: string, heldKind: Kind, held: string, isStructural = false, namespace = "n") =>
  create(ReferenceSchema, { namespace, holderKind, holder, heldKind, held, isStructural });

const graph = {
  resources: [
    resource(Kind.IMAGE, "a", { isRoot: true }),
    resource(Kind.IMAGE, "b", { isRoot: true }),
    resource(Kind.IMAGE, "a", { isRoot: true }, "m"),
    resource(Kind.CONTAINER, "c", { isRoot: true }),
    resource(Kind.LEASE, "flat", { isRoot: true, isFlat: true }),
    resource(Kind.CONTENT, "manifest-a", { size: 10n }),
    resource(Kind.CONTENT, "manifest-a", { size: 10n }, "m"),
    resource(Kind.CONTENT, "manifest-b", { size: 20n }),
    resource(Kind.CONTENT, "layer", { size: 100n }),
    resource(Kind.CONTENT, "left", { size: 5n }),
    resource(Kind.SNAPSHOT, "overlayfs/base", { size: 1000n, isCommitted: true }),
    resource(Kind.SNAPSHOT, "overlayfs/top"),
    resource(Kind.SNAPSHOT, "overlayfs/pinned", { size: 7n, isRoot: true, isCommitted: true }),
  ],
  references: [
    hold(Kind.IMAGE, "a", Kind.CONTENT, "manifest-a", true),
    hold(Kind.IMAGE, "a", Kind.CONTENT, "manifest-a", true, "m"),
    hold(Kind.IMAGE, "b", Kind.CONTENT, "manifest-b", true),
    hold(Kind.CONTENT, "manifest-a", Kind.CONTENT, "layer"),
    hold(Kind.CONTENT, "manifest-b", Kind.CONTENT, "layer"),
    hold(Kind.CONTENT, "manifest-b", Kind.SNAPSHOT, "overlayfs/base"),
    hold(Kind.CONTAINER, "c", Kind.SNAPSHOT, "overlayfs/top", true),
    hold(Kind.SNAPSHOT, "overlayfs/top", Kind.SNAPSHOT, "overlayfs/base", true),
    hold(Kind.LEASE, "flat", Kind.CONTENT, "manifest-b", true),
    hold(Kind.IMAGE, "a", Kind.CONTENT, "absent"),
  ],
};
const disk = {
  directories: new Map([
    ["io.containerd.content.v1.content", 200],
    ["io.containerd.snapshotter.v1.overlayfs", 2000],
    ["io.containerd.metadata.v1.bolt", 64],
  ]),
  totalBytes: 2300,
};

test("each keeper is told what it takes with others and alone, and each snapshot what keeps it", () => {
  const report = accountFor(graph, new Map([["n/overlayfs/top", 300]]), disk);
  const takes = report.holders.map(({ namespace, kind, name, totalBytes, exclusiveBytes }) => [
    `${namespace} ${kind} ${name}`,
    totalBytes,
    exclusiveBytes,
  ]);
  assert.deepEqual(takes, [
    ["n image a", 110, 0],
    ["n image b", 1120, 0],
    // The file of the manifest is one, whoever has it.
    ["m image a", 10, 0],
    ["n container c", 1300, 300],
    ["n lease flat", 20, 0],
  ]);
  assert.deepEqual(report.namespaces, [
    { namespace: "n", totalBytes: 10 + 20 + 100 + 5 + 1000 + 300 + 7, exclusiveBytes: 20 + 100 + 5 + 1000 + 300 + 7 },
    { namespace: "m", totalBytes: 10, exclusiveBytes: 0 },
  ]);
  assert.deepEqual(report.content, { blobs: 4, bytes: 135, unkeptBytes: 5 });
  assert.deepEqual(
    report.snapshots.map(({ key, state, bytes, keptBy }) => [key, state, bytes, keptBy]),
    [
      ["base", "committed", 1000, ["image b", "container c"]],
      ["top", "active", 300, ["container c"]],
      ["pinned", "committed", 7, ["label containerd.io/gc.root"]],
    ],
  );
});

test("the areas add up to what the disk says", () => {
  const { areas, diskBytes } = accountFor(graph, new Map(), disk);
  assert.equal(
    areas.reduce((total, area) => total + area.diskBytes, 0),
    diskBytes,
  );
  assert.deepEqual(
    areas.map(({ area, diskBytes: bytes, recordedBytes }) => [area, bytes, recordedBytes]),
    [
      ["io.containerd.content.v1.content", 200, 135],
      ["io.containerd.snapshotter.v1.overlayfs", 2000, 1007],
      ["io.containerd.metadata.v1.bolt", 64, 0],
      ["other files", 36, 0],
    ],
  );
});

test("people read it in tables", () => {
  const text = formatDu(accountFor(graph, new Map(), disk));
  assert.match(text, /^total +2\.2 KiB$/m);
  assert.match(text, /^n +container +1000 B +0 B +c$/m);
  assert.match(text, /^n +overlayfs +committed +1000 B +base +image b, container c$/m);
  assert.match(text, /^blobs: 4, 135 B, of which 5 B are freed by the next collection$/m);
});
