import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { ErrorKind } from "#base/errors.ts";
import { digestOf } from "#containerd/digest.ts";
import { RemovalMarkReader } from "#fleet/removal-mark.ts";
import { ContentCreateSchema } from "#gen/containerd/events/content_pb.ts";
import { SnapshotCommitSchema, SnapshotPrepareSchema } from "#gen/containerd/events/snapshot_pb.ts";
import { Content } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Leases } from "#gen/containerd/services/leases/v1/leases_pb.ts";
import { Namespaces } from "#gen/containerd/services/namespaces/v1/namespaces_pb.ts";
import { Kind, Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { BlobIndex, SnapshotIndex, SnapshotKind } from "#gen/flotilla/index/v1/index_pb.ts";
import { collect, exists, invalid, notFound, refused, topics } from "./metadata-calls.ts";
import { inNamespace, MetadataProcess } from "./metadata-process.ts";

const namespace = "index";
const ns = inNamespace(namespace);
const bounded = { timeout: 60_000 };
/** So that nothing is collected while a test looks at it. */
const withoutCollector = `[plugins."io.containerd.gc.v1.scheduler"]\n  startup_delay = "1h"\n`;
const longLabel = { key: "v".repeat(4094) };
const longLabelText =
  "info.Labels: label key and value length (4097 bytes) greater than maximum size (4096 bytes), key: key: invalid argument";

async function heldBy(process: MetadataProcess, id: string, inNs = ns): Promise<string[]> {
  const { resources } = await process.client(Leases).listResources({ id }, inNs);
  return resources.map((resource) => `${resource.type} ${resource.id}`);
}

test("ingests", bounded, async (context: TestContext) => {
  const process = await MetadataProcess.start(context, { config: withoutCollector });
  const index = process.client(BlobIndex);
  const leases = process.client(Leases);
  await leases.create({ id: "l" }, ns);

  await context.test("are reserved under a name on disk that is never used again", async () => {
    const first = await index.openIngest({ namespace, ref: "layer/1" });
    assert.match(first.backendRef, /^index\/\d+\/layer\/1$/);
    assert.equal(first.shared, undefined);
    assert.equal((await index.openIngest({ namespace, ref: "layer/1" })).backendRef, first.backendRef);
    const { backendRef } = await index.removeIngest({ namespace, ref: "layer/1" });
    assert.equal(backendRef, first.backendRef);
    const again = await index.openIngest({ namespace, ref: "layer/1" });
    assert.notEqual(again.backendRef, first.backendRef);
    await notFound("reference gone: not found", index.removeIngest({ namespace, ref: "gone" }));
    await invalid("ref must not be empty: invalid argument", index.openIngest({ namespace }));
  });

  await context.test("are held by leases that exist", async () => {
    await notFound("lease does not exist: not found", index.openIngest({ namespace, ref: "held", lease: "nobody" }));
    await index.openIngest({ namespace, ref: "held", lease: "l" });
    assert.deepEqual(await heldBy(process, "l"), ["ingests held"]);
    await index.removeIngest({ namespace, ref: "held", lease: "l" });
    assert.deepEqual(await heldBy(process, "l"), []);
  });

  await context.test("are listed", async () => {
    await index.openIngest({ namespace, ref: "b" });
    await index.openIngest({ namespace: "other", ref: "c" });
    const list = async (...refs: string[]): Promise<string[]> =>
      (await index.listIngests({ namespace, refs })).ingests.map(({ ref }) => ref);
    assert.deepEqual([await list(), await list("b", "c")], [["b", "layer/1"], ["b"]]);
  });

  await context.test("become blobs", async () => {
    const digest = digestOf("one");
    await index.openIngest({ namespace, ref: "r", lease: "l" });
    const labels = { a: "1", gone: "" };
    await index.recordBlob({ namespace, ref: "r", lease: "l", digest, size: 3n, labels });
    assert.deepEqual(await heldBy(process, "l"), [`content ${digest}`]);
    const absent = digestOf("absent");
    const { blobs } = await index.resolveBlobs({ namespace, digests: [absent, digest] });
    assert.deepEqual(
      blobs.map((blob) => [blob.digest, blob.size]),
      [[digest, 3n]],
    );
    assert.deepEqual((await index.listIngests({ namespace, refs: ["r"] })).ingests, []);
    const { info } = await process.client(Content).info({ digest }, ns);
    assert.deepEqual([info?.size, info?.labels], [3n, { a: "1" }]);
  });

  await context.test("of blobs that the namespace has end and lease them", async () => {
    const digest = digestOf("one");
    await leases.create({ id: "second" }, ns);
    const text = `content ${digest}: already exists`;
    await exists(text, index.openIngest({ namespace, ref: "r", expected: digest, lease: "second" }));
    assert.deepEqual(await heldBy(process, "second"), [`content ${digest}`]);
    await notFound(
      "unable to lease content: lease does not exist: not found",
      index.openIngest({ namespace, ref: "r", expected: digest, lease: "nobody" }),
    );
    await leases.create({ id: "third" }, ns);
    await index.openIngest({ namespace, ref: "r", lease: "third" });
    await exists(text, index.recordBlob({ namespace, ref: "r", digest, size: 3n, lease: "third" }));
    assert.deepEqual(await heldBy(process, "third"), [`content ${digest}`]);
    assert.deepEqual((await index.listIngests({ namespace, refs: ["r"] })).ingests, []);
  });

  await context.test("that are refused leave nothing behind", async () => {
    const digest = digestOf("refused");
    await index.openIngest({ namespace, ref: "r" });
    const blob = { namespace, ref: "r", digest, size: 3n };
    await invalid(longLabelText, index.recordBlob({ ...blob, labels: longLabel }));
    await notFound("lease does not exist: not found", index.recordBlob({ ...blob, lease: "nobody" }));
    assert.deepEqual((await index.resolveBlobs({ namespace, digests: [digest] })).blobs, []);
    assert.equal((await index.listIngests({ namespace, refs: ["r"] })).ingests.length, 1);
  });

  await context.test("tell of new blobs alone", async () => {
    const told = await topics(process, 1);
    assert.deepEqual(told, ["index /content/create"]);
    const event = process.neighbours.events[0]?.envelope?.event;
    assert.equal(event?.typeUrl, "containerd.events.ContentCreate");
    const { digest, size } = fromBinary(ContentCreateSchema, event.value);
    assert.deepEqual([digest, size], [digestOf("one"), 3n]);
  });
});

test("blobs that other namespaces have", bounded, async (context: TestContext) => {
  const blob = { digest: digestOf("shared"), size: 6n };
  const open = (process: MetadataProcess, total = 0n) =>
    process.client(BlobIndex).openIngest({ namespace, ref: "r", expected: blob.digest, total });

  await context.test("need no bytes when they are shared", async (context) => {
    const process = await MetadataProcess.start(context, { config: withoutCollector });
    const index = process.client(BlobIndex);
    assert.equal((await open(process)).shared, undefined);
    await index.recordBlob({ namespace: "other", ref: "x", ...blob });
    assert.equal((await open(process)).shared?.size, 6n);
    assert.equal((await open(process, 6n)).shared?.size, 6n);
    assert.equal((await open(process, 7n)).shared, undefined);
    assert.deepEqual((await index.resolveBlobs({ namespace, digests: [blob.digest] })).blobs, []);
    assert.equal((await open(process)).shared?.size, 6n);
    await index.recordBlob({ namespace, ref: "r", ...blob });
    assert.equal((await index.resolveBlobs({ namespace, digests: [blob.digest] })).blobs.length, 1);
  });

  await context.test("stay on disk while an ingest stands for them", async (context) => {
    const process = await MetadataProcess.start(context, { config: withoutCollector });
    const index = process.client(BlobIndex);
    await index.recordBlob({ namespace: "other", ref: "x", ...blob });
    await open(process);
    await process.client(Content).delete({ digest: blob.digest }, inNamespace("other"));
    assert.deepEqual((await index.confirmCondemned({ digests: [blob.digest] })).digests, []);
    assert.equal((await open(process)).shared?.size, 6n);
    assert.deepEqual((await index.confirmCondemned({ digests: [blob.digest] })).digests, []);
    await index.removeIngest({ namespace, ref: "r" });
    assert.deepEqual((await index.confirmCondemned({ digests: [blob.digest] })).digests, [blob.digest]);
  });

  await context.test("are wanted again before their file is gone, but not after", async (context) => {
    const process = await MetadataProcess.start(context, { config: withoutCollector });
    const index = process.client(BlobIndex);
    const remove = () => process.client(Content).delete({ digest: blob.digest }, inNamespace("other"));
    await index.recordBlob({ namespace: "other", ref: "x", ...blob });
    await remove();
    assert.equal((await open(process)).shared?.size, 6n);
    assert.deepEqual((await index.confirmCondemned({ digests: [blob.digest] })).digests, []);
    await index.removeIngest({ namespace, ref: "r" });
    await index.recordBlob({ namespace: "other", ref: "x", ...blob });
    await remove();
    assert.deepEqual((await index.confirmCondemned({ digests: [blob.digest] })).digests, [blob.digest]);
    assert.equal((await open(process)).shared, undefined);
    await index.recordBlob({ namespace, ref: "r", ...blob });
    assert.deepEqual((await index.confirmCondemned({ digests: [blob.digest] })).digests, []);
  });

  await context.test("need all bytes when namespaces are isolated, unless one is marked", async (context) => {
    const config = `${withoutCollector}[plugins."io.containerd.metadata.v1.bolt"]\n  content_sharing_policy = "isolated"\n`;
    const process = await MetadataProcess.start(context, { config });
    await process.client(BlobIndex).recordBlob({ namespace: "other", ref: "x", ...blob });
    assert.equal((await open(process)).shared, undefined);
    const labels = { "containerd.io/namespace.shareable": "true" };
    await process.client(Namespaces).update({ namespace: { name: "other", labels } });
    assert.equal((await open(process)).shared?.size, 6n);
  });
});

test("files of the content process are compared with the records", bounded, async (context: TestContext) => {
  const process = await MetadataProcess.start(context, { config: withoutCollector });
  const index = process.client(BlobIndex);
  const [known, lost, orphan, condemned] = ["known", "lost", "orphan", "condemned"].map((text) => digestOf(text));
  assert.ok(known !== undefined && lost !== undefined && orphan !== undefined && condemned !== undefined);
  for (const digest of [known, lost, condemned]) {
    await index.recordBlob({ namespace, ref: "r", digest, size: 1n });
  }
  await process.client(Content).delete({ digest: condemned }, ns);
  const { backendRef } = await index.openIngest({ namespace, ref: "r" });
  const found = await index.reconcileBlobs({
    digests: [known, orphan, condemned],
    backendRefs: [backendRef, "index/99/x"],
  });
  assert.deepEqual(found.orphanDigests, [orphan, condemned]);
  assert.deepEqual(found.orphanBackendRefs, ["index/99/x"]);
  assert.deepEqual(found.lostDigests, [lost]);
});

test("content", bounded, async (context: TestContext) => {
  const process = await MetadataProcess.start(context, { config: withoutCollector });
  const index = process.client(BlobIndex);
  const content = process.client(Content);
  const digest = digestOf("0");
  const record = (text: string, labels: Record<string, string> = {}) =>
    index.recordBlob({ namespace, ref: "r", digest: digestOf(text), size: BigInt(text.length), labels });
  await record("0", { a: "1" });

  await context.test("that is not there", async () => {
    const absent = digestOf("absent");
    await notFound(`content digest ${absent}: not found`, content.info({ digest: absent }, ns));
    await notFound(`content digest ${absent}: not found`, content.update({ info: { digest: absent } }, ns));
    await notFound(`content digest ${absent}: not found`, content.delete({ digest: absent }, ns));
    await notFound(`content digest ${digest}: not found`, content.info({ digest }, inNamespace("other")));
    await invalid('"sha256:x" failed validation', content.info({ digest: "sha256:x" }, ns));
    await invalid('"" failed validation', content.update({}, ns));
    await invalid("invalid checksum digest length", content.delete({ digest: "sha256:x" }, ns));
    await refused(ErrorKind.FailedPrecondition, "namespace is required: failed precondition", content.info({ digest }));
  });

  await context.test("changes its labels", async () => {
    const before = (await content.info({ digest }, ns)).info;
    const update = async (labels: Record<string, string>, ...paths: string[]) =>
      (await content.update({ info: { digest, labels, size: 9n }, updateMask: { paths } }, ns)).info;
    const changed = await update({ b: "2", c: "3" }, "labels.a", "labels.b");
    assert.deepEqual([changed?.labels, changed?.size, changed?.createdAt], [{ b: "2" }, 1n, before?.createdAt]);
    assert.notDeepEqual(changed?.updatedAt, before?.updatedAt);
    assert.deepEqual((await update({ c: "3" }))?.labels, { c: "3" });
    assert.deepEqual((await content.info({ digest }, ns)).info?.labels, { c: "3" });
    await invalid(`cannot update "size" field on content info "${digest}": invalid argument`, update({}, "size"));
    await invalid(longLabelText, update(longLabel));
  });

  await context.test("is listed a hundred at a time", async () => {
    for (let number = 1; number < 205; number += 1) {
      await record(String(number), number % 2 === 0 ? { even: "yes" } : {});
    }
    const sizes = async (...filters: string[]): Promise<number[]> =>
      (await collect(content.list({ filters }, ns))).map(({ info }) => info.length);
    assert.deepEqual(await sizes(), [100, 100, 5]);
    assert.deepEqual(await sizes("labels.even==yes"), [100, 2]);
    assert.deepEqual(await sizes(`digest==${digest}`), [1]);
    assert.deepEqual(await sizes("labels.even==no"), []);
    assert.deepEqual(await collect(content.list({}, inNamespace("other"))), []);
    const text = "filters: parse error: [digest==]: expected value or quoted: invalid argument";
    await invalid(text, collect(content.list({ filters: ["digest=="] }, ns)));
  });

  await context.test("leaves a namespace, and its lease", async () => {
    await process.client(Leases).create({ id: "l" }, ns);
    await exists(
      `content ${digest}: already exists`,
      index.openIngest({ namespace, ref: "r", expected: digest, lease: "l" }),
    );
    await content.delete({ digest }, inNamespace(namespace, "l"));
    assert.deepEqual(await heldBy(process, "l"), []);
    await notFound(`content digest ${digest}: not found`, content.info({ digest }, ns));
    assert.equal((await topics(process, 206)).at(-1), "index /content/delete");
  });
});

test("snapshots", bounded, async (context: TestContext) => {
  const process = await MetadataProcess.start(context, { config: withoutCollector });
  const index = process.client(SnapshotIndex);
  const snapshots = process.client(Snapshots);
  const leases = process.client(Leases);
  const snapshotter = "native";
  const of = { namespace, snapshotter };
  const prepare = async (key: string, parent = "", more: object = {}) =>
    (await index.prepareSnapshot({ ...of, key, parent, kind: SnapshotKind.ACTIVE, ...more })).location;
  const commit = (key: string, name: string, more: object = {}) => index.commitSnapshot({ ...of, key, name, ...more });
  using changed = new RemovalMarkReader(`${process.directory}/state`, "snapshot");
  /** Makes sure that those who remember where snapshots lie learn of a change. */
  const tells = async <T>(change: Promise<T>): Promise<T> => {
    const before = changed.read();
    const outcome = await change;
    assert.ok(before !== undefined && changed.read() !== before);
    return outcome;
  };
  await leases.create({ id: "l" }, ns);

  await context.test("of snapshotters that are not loaded", async () => {
    const text = "snapshotter not loaded: native: invalid argument";
    await invalid(text, snapshots.stat({ snapshotter, key: "k" }, ns));
    await invalid(text, snapshots.update({ snapshotter, info: { name: "k" } }, ns));
    await invalid(text, snapshots.remove({ snapshotter, key: "k" }, ns));
    await invalid(text, collect(snapshots.list({ snapshotter }, ns)));
    await invalid("snapshotter argument missing: invalid argument", snapshots.stat({ key: "k" }, ns));
    await process.loadSnapshotters("native", "overlayfs");
    await notFound("snapshot k does not exist: not found", snapshots.stat({ snapshotter, key: "k" }, ns));
    await process.loadSnapshotters("native");
    await invalid(
      "snapshotter not loaded: overlayfs: invalid argument",
      snapshots.stat({ snapshotter: "overlayfs", key: "k" }, ns),
    );
  });

  await context.test("of a namespace that never had any cannot be committed", async () => {
    await notFound('can not find snapshotter "native": not found', commit("k", "n"));
  });

  await context.test("are prepared and committed into a tree", async () => {
    const first = await prepare("a", "", { lease: "l", labels: { x: "1", gone: "" } });
    assert.deepEqual([first?.parentIds, first?.kind, first?.labels], [[], SnapshotKind.ACTIVE, { x: "1" }]);
    assert.deepEqual(await heldBy(process, "l"), ["snapshots/native a"]);
    await commit("a", "layer1", { lease: "l", labels: { y: "2" }, usage: { size: 5n, inodes: 2n } });
    assert.deepEqual(await heldBy(process, "l"), ["snapshots/native layer1"]);
    await notFound("snapshot a does not exist: not found", index.resolveSnapshot({ ...of, key: "a" }));
    const { location, usage } = await index.resolveSnapshot({ ...of, key: "layer1" });
    assert.equal(location?.id, first?.id);
    assert.deepEqual([location?.kind, location?.labels], [SnapshotKind.COMMITTED, { y: "2" }]);
    assert.deepEqual([usage?.size, usage?.inodes], [5n, 2n]);
    await prepare("b", "layer1");
    await commit("b", "layer2");
    const view = await prepare("v", "layer2", { kind: SnapshotKind.VIEW });
    const second = (await index.resolveSnapshot({ ...of, key: "layer2" })).location;
    assert.deepEqual(view?.parentIds, [second?.id, first?.id]);
    assert.equal(new Set([first?.id, second?.id, view?.id]).size, 3);
    assert.equal((await index.resolveSnapshot({ ...of, key: "v" })).usage, undefined);
  });

  await context.test("are refused with containerd's words", async () => {
    await exists('snapshot "v": already exists', prepare("v", "", { lease: "l" }));
    assert.deepEqual(await heldBy(process, "l"), ["snapshots/native layer1", "snapshots/native v"]);
    await notFound("parent snapshot p does not exist: not found", prepare("n", "p"));
    await invalid(
      'failed to create snapshot: parent "v" is not committed snapshot: invalid argument',
      prepare("n", "v"),
    );
    await notFound("lease does not exist: not found", prepare("n", "", { lease: "nobody" }));
    await invalid(longLabelText, prepare("n", "", { labels: longLabel }));
    await refused(ErrorKind.Unknown, "bucket name required", prepare(""));
    await exists('snapshot "layer1": already exists', commit("v", "layer1"));
    await notFound("snapshot n does not exist: not found", commit("n", "m"));
    await refused(
      ErrorKind.FailedPrecondition,
      'failed to commit snapshot v: snapshot "v" is not active: failed precondition',
      commit("v", "m"),
    );
  });

  await context.test("exist already when a committed one makes them needless", async () => {
    await leases.create({ id: "remote" }, ns);
    const labels = { "containerd.io/snapshot.ref": "layer2" };
    await exists(
      'target snapshot "layer2": already exists',
      prepare("extract-1 layer2", "layer1", { labels, lease: "remote" }),
    );
    assert.deepEqual(await heldBy(process, "remote"), ["snapshots/native layer2"]);
    await prepare("extract-2", "", { labels: { "containerd.io/snapshot.ref": "layer3" } });
  });

  await context.test("are put on another parent when they had none", async () => {
    await prepare("alone");
    await notFound("parent snapshot p does not exist: not found", commit("alone", "layer3", { parent: "p" }));
    await refused(
      ErrorKind.FailedPrecondition,
      'failed to commit snapshot alone: parent "v" is not committed: failed precondition',
      commit("alone", "layer3", { parent: "v" }),
    );
    await tells(commit("alone", "layer3", { parent: "layer2" }));
    assert.equal((await snapshots.stat({ snapshotter, key: "layer3" }, ns)).info?.parent, "layer2");
    assert.equal((await index.resolveSnapshot({ ...of, key: "layer3" })).location?.parentIds.length, 2);
  });

  await context.test("show and change their labels", async () => {
    const { info } = await snapshots.stat({ snapshotter, key: "layer1" }, ns);
    assert.deepEqual([info?.name, info?.parent, info?.kind, info?.labels], ["layer1", "", Kind.COMMITTED, { y: "2" }]);
    const update = async (labels: Record<string, string>, ...paths: string[]) =>
      (await snapshots.update({ snapshotter, info: { name: "layer1", labels }, updateMask: { paths } }, ns)).info;
    assert.deepEqual((await update({ z: "3" }, "labels.z", "labels.y"))?.labels, { z: "3" });
    const whole = await tells(update({ q: "4" }));
    assert.deepEqual([whole?.labels, whole?.createdAt, whole?.kind], [{ q: "4" }, info?.createdAt, Kind.COMMITTED]);
    await invalid('cannot update "parent" field on snapshot "layer1": invalid argument', update({}, "parent"));
    await invalid("invalid argument", snapshots.update({ snapshotter, info: {} }, ns));
    await notFound("snapshot n does not exist: not found", snapshots.update({ snapshotter, info: { name: "n" } }, ns));
  });

  await context.test("are listed by filters", async () => {
    const list = async (...filters: string[]): Promise<string[]> =>
      (await collect(snapshots.list({ snapshotter, filters }, ns))).flatMap(({ info }) => info.map(({ name }) => name));
    assert.deepEqual(await list(), ["extract-2", "layer1", "layer2", "layer3", "v"]);
    assert.deepEqual(await list("kind==committed"), ["layer1", "layer2", "layer3"]);
    assert.deepEqual(await list("kind==view", "labels.q==4"), ["layer1", "v"]);
    assert.deepEqual(await list("parent==layer2"), ["layer3", "v"]);
    assert.deepEqual(await list('parent==""'), ["extract-2", "layer1"]);
    const text = "filters: parse error: [kind==]: expected value or quoted: invalid argument";
    await refused(ErrorKind.Unknown, text, collect(snapshots.list({ snapshotter, filters: ["kind=="] }, ns)));
    await refused(
      ErrorKind.Unknown,
      "namespace is required: failed precondition",
      collect(snapshots.list({ snapshotter })),
    );
  });

  await context.test("are removed on record when they have no children", async () => {
    await refused(
      ErrorKind.FailedPrecondition,
      "cannot remove snapshot with child: failed precondition",
      snapshots.remove({ snapshotter, key: "layer2" }, ns),
    );
    await tells(snapshots.remove({ snapshotter, key: "v" }, inNamespace(namespace, "l")));
    assert.deepEqual(await heldBy(process, "l"), ["snapshots/native layer1"]);
    await notFound("snapshot v does not exist: not found", snapshots.remove({ snapshotter, key: "v" }, ns));
  });

  await context.test("are compared with directories", async () => {
    const ids = await Promise.all(
      ["layer1", "layer2"].map(async (key) => (await index.resolveSnapshot({ ...of, key })).location?.id ?? 0n),
    );
    const { repairs } = await index.reconcileSnapshots({ snapshotters: [{ name: snapshotter, ids: [...ids, 1000n] }] });
    assert.deepEqual(
      repairs.map((repair) => [repair.snapshotter, repair.orphanIds, repair.missing.map(({ kind }) => kind)]),
      [[snapshotter, [1000n], [SnapshotKind.ACTIVE, SnapshotKind.COMMITTED]]],
    );
    assert.ok(((await prepare("new"))?.id ?? 0n) > 1000n);
  });

  await context.test("tell what becomes of them, but views do not", async () => {
    const told = await topics(process, 9);
    const count = (topic: string): number => told.filter((candidate) => candidate === `index ${topic}`).length;
    assert.deepEqual([count("/snapshot/prepare"), count("/snapshot/commit"), count("/snapshot/remove")], [5, 3, 1]);
    const [prepared, committed] = process.neighbours.events.map(({ envelope }) => envelope?.event);
    assert.equal(prepared?.typeUrl, "containerd.events.SnapshotPrepare");
    const prepareEvent = fromBinary(SnapshotPrepareSchema, prepared.value);
    assert.deepEqual([prepareEvent.key, prepareEvent.snapshotter], ["a", "native"]);
    const commitEvent = fromBinary(SnapshotCommitSchema, committed?.value ?? new Uint8Array());
    assert.deepEqual([commitEvent.key, commitEvent.name, commitEvent.snapshotter], ["a", "layer1", "native"]);
  });
});
