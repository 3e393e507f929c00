import assert from "node:assert/strict";
import test from "node:test";
import { type Reference, Relation, readReferenceFacts } from "./reference-labels.ts";
import { ResourceKind } from "./resource.ts";

const { Content, Snapshot, Container, Image, Lease, Sandbox, Mount } = ResourceKind;

function references(kind: ResourceKind, labels: Record<string, string>): Reference[] {
  const prefixed = Object.entries(labels).map(([key, value]) => [`containerd.io/gc.${key}`, value]);
  return [...readReferenceFacts(kind, Object.fromEntries(prefixed)).references];
}

const { Label, Back, Conditional } = Relation;

test("labels that refer", () => {
  const cases: readonly [label: string, value: string, expected: readonly Reference[]][] = [
    ["ref.content", "d", [{ relation: Label, kind: Content, key: "d" }]],
    ["ref.content.l.0", "d", [{ relation: Label, kind: Content, key: "d" }]],
    ["ref.content/l", "d", [{ relation: Label, kind: Content, key: "d" }]],
    ["ref.contents", "d", []],
    ["ref.content-x", "d", []],
    ["ref.image.any", "i", [{ relation: Label, kind: Image, key: "i" }]],
    ["ref.snapshot.overlayfs", "k", [{ relation: Label, kind: Snapshot, key: "overlayfs/k" }]],
    ["ref.snapshot.overlayfs/name", "k/l", [{ relation: Label, kind: Snapshot, key: "overlayfs/k/l" }]],
    ["ref.snapshot.a.b", "k", [{ relation: Label, kind: Snapshot, key: "a.b/k" }]],
    ["ref.snapshot", "k", []],
    ["ref.container", "c", []],
    ["ref.mount.x", "m", [{ relation: Label, kind: Mount, key: "m" }]],
    ["bref.mount", "m", []],
    ["bref.container.x", "c", [{ relation: Back, kind: Container, key: "c" }]],
    ["bref.content", "d", [{ relation: Back, kind: Content, key: "d" }]],
    ["bref.image", "i", [{ relation: Back, kind: Image, key: "i" }]],
    ["bref.snapshot.native/x", "k", [{ relation: Back, kind: Snapshot, key: "native/k" }]],
    ["bref.images", "i", []],
    ["other", "x", []],
  ];
  for (const [label, value, expected] of cases) {
    assert.deepEqual(references(Content, { [label]: value }), expected, label);
  }
});

test("conditional references", () => {
  const conditions = (value: string, label = "cond.snapshot.native"): (string | undefined)[] =>
    references(Image, { [label]: value }).map(({ relation, key, condition }) => {
      assert.deepEqual([relation, key], [Conditional, "native/k|l"]);
      return condition;
    });
  assert.deepEqual(conditions("usedat<24h|k|l"), ["<24h"]);
  assert.deepEqual(conditions("usedat>1h,usedat<24h|k|l", "cond.snapshot/native/name"), [">1h", "<24h"]);
  assert.deepEqual(conditions("usedat<=1h,usedat=1h,usedat!1h,other<1h,usedat|k|l"), []);
  assert.deepEqual(conditions("usedat<24h"), []);
});

test("labels count on the kinds of resources that containerd reads them on", () => {
  const labels = {
    "containerd.io/gc.root": "x",
    "containerd.io/gc.flat": "x",
    "containerd.io/gc.expire": "2020-01-01T00:00:00Z",
    "containerd.io/gc.cond.value-usedat": "2020-01-01T00:00:01Z",
    "containerd.io/gc.cond.value-usedat.bad": "yesterday",
    "containerd.io/gc.cond.snapshot.native": "usedat<1h|k",
    "containerd.io/gc.ref.content": "d",
    "containerd.io/gc.bref.content": "e",
  };
  const expiresMs = Date.UTC(2020, 0, 1);
  const read = (kind: ResourceKind): unknown[] => {
    const facts = readReferenceFacts(kind, labels);
    return [facts.root, facts.flat, facts.expiresMs, facts.usedMs, facts.references.map(({ relation }) => relation)];
  };
  assert.deepEqual(read(Content), [true, false, undefined, [], [Conditional, Label, Back]]);
  assert.deepEqual(read(Snapshot), [true, false, undefined, [expiresMs + 1000], [Label, Back]]);
  assert.deepEqual(read(Container), [true, false, undefined, [], [Label, Back]]);
  assert.deepEqual(read(Image), [true, false, expiresMs, [], [Conditional, Label, Back]]);
  assert.deepEqual(read(Lease), [true, true, expiresMs, [], []]);
  assert.deepEqual(read(Mount), [false, false, undefined, [], [Back]]);
  assert.deepEqual(read(Sandbox), [true, false, undefined, [], [Label]]);
  assert.equal(readReferenceFacts(Content, {}).root, false);
  assert.equal(readReferenceFacts(Content, { "containerd.io/gc.root.named": "x" }).root, true);
  assert.equal(readReferenceFacts(Image, { "containerd.io/gc.expire": "soon" }).expiresMs, undefined);
});

test("what a resource refers to by itself comes before its labels", () => {
  const { references: read } = readReferenceFacts(Image, { "containerd.io/gc.ref.content": "e" }, [
    { kind: Content, key: "d" },
  ]);
  assert.deepEqual(read, [
    { relation: Relation.Structural, kind: Content, key: "d" },
    { relation: Label, kind: Content, key: "e" },
  ]);
});
