import assert from "node:assert/strict";
import test from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { digestOf } from "#containerd/digest.ts";
import { SnapshotRemoveSchema } from "#gen/containerd/events/snapshot_pb.ts";
import { Containers } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { Content } from "#gen/containerd/services/content/v1/content_pb.ts";
import { Images } from "#gen/containerd/services/images/v1/images_pb.ts";
import { Leases } from "#gen/containerd/services/leases/v1/leases_pb.ts";
import { Snapshots } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { BlobIndex, MountIndex, SnapshotIndex, SnapshotKind } from "#gen/flotilla/index/v1/index_pb.ts";
import { collect, topics } from "./metadata-calls.ts";
import { inNamespace, MetadataProcess } from "./metadata-process.ts";

const namespace = "gc";
const ns = inNamespace(namespace);
const bounded = { timeout: 60_000 };
const manifest = digestOf("manifest");
const layer = digestOf("layer");
/** So that collections run when a client waits for one. */
const config = `[plugins."io.containerd.gc.v1.scheduler"]\n  startup_delay = "1h"\n`;

/** Makes an image of one layer that is unpacked, and a snapshot on top. @param lease - Holds what is made. */
async function pullImage(process: MetadataProcess, lease = ""): Promise<void> {
  const index = process.client(BlobIndex);
  await index.recordBlob({ namespace, lease, ref: "l", digest: layer, size: 5n });
  const labels = { "containerd.io/gc.ref.content.l.0": layer, "containerd.io/gc.ref.snapshot.native": "layer" };
  await index.recordBlob({ namespace, lease, ref: "m", digest: manifest, size: 8n, labels });
  const target = { mediaType: "m", digest: manifest, size: 8n };
  await process.client(Images).create({ image: { name: "image", target } }, ns);
  const snapshots = process.client(SnapshotIndex);
  const of = { namespace, lease, snapshotter: "native" };
  await snapshots.prepareSnapshot({ ...of, key: "extract", kind: SnapshotKind.ACTIVE });
  await snapshots.commitSnapshot({ ...of, key: "extract", name: "layer" });
  await snapshots.prepareSnapshot({ ...of, key: "top", parent: "layer", kind: SnapshotKind.ACTIVE });
}

async function listDigests(process: MetadataProcess): Promise<string[]> {
  const messages = await collect(process.client(Content).list({}, ns));
  return messages.flatMap(({ info }) => info.map(({ digest }) => digest));
}

test("a deletion that is synchronous waits until files are gone", bounded, async (context) => {
  const process = await MetadataProcess.start(context, { config });
  await process.loadSnapshotters("native");
  await process.client(Leases).create({ id: "l" }, ns);
  await process.client(Leases).addResource({ id: "l", resource: { type: "snapshots/native", id: "top" } }, ns);
  await pullImage(process);
  const { neighbours } = process;
  await process.client(Images).delete({ name: "image", sync: true }, ns);
  assert.deepEqual(await listDigests(process), []);
  assert.deepEqual(new Set(neighbours.removedDigests), new Set([manifest, layer]));
  assert.deepEqual(neighbours.removedSnapshots, [], "the lease holds the snapshot and its parent");

  await process.client(Leases).delete({ id: "l", sync: true }, ns);
  assert.deepEqual(
    neighbours.removedSnapshots.map(({ snapshotter, id }) => [snapshotter, id]),
    [
      ["native", 2n],
      ["native", 1n],
    ],
    "children come before their parents",
  );

  const told = (await topics(process, 9)).slice(-3);
  assert.deepEqual(told, ["gc /images/delete", "gc /snapshot/remove", "gc /snapshot/remove"]);
  const last = neighbours.events.at(-1)?.envelope?.event?.value;
  assert.deepEqual(fromBinary(SnapshotRemoveSchema, last ?? new Uint8Array()).key, "layer");
});

test("files that cannot be removed stay released until they can", bounded, async (context) => {
  const process = await MetadataProcess.start(context, { config });
  await process.loadSnapshotters("native");
  await pullImage(process);
  const { neighbours } = process;
  neighbours.removalRefused = true;
  await process.client(Images).delete({ name: "image", sync: true }, ns);
  assert.deepEqual([neighbours.removedDigests, neighbours.removedSnapshots], [[], []]);
  assert.match(process.log, /released files could not be removed/);
  await process.kill();
  neighbours.removalRefused = false;
  await process.restart();
  await process.client(Leases).create({ id: "empty" }, ns);
  await process.client(Leases).delete({ id: "empty", sync: true }, ns);
  assert.deepEqual([neighbours.removedDigests.length, neighbours.removedSnapshots.length], [2, 2]);
});

test("files without a record go with the next blobs that are removed", bounded, async (context) => {
  const process = await MetadataProcess.start(context, { config });
  const orphan = digestOf("orphan");
  const collectNow = async (): Promise<void> => {
    await process.client(Leases).create({ id: "empty" }, ns);
    await process.client(Leases).delete({ id: "empty", sync: true }, ns);
  };
  await process.client(BlobIndex).reconcileBlobs({ digests: [orphan] });
  await collectNow();
  assert.deepEqual(process.neighbours.removedDigests, []);
  await process.client(BlobIndex).recordBlob({ namespace, ref: "l", digest: layer, size: 5n });
  await collectNow();
  assert.deepEqual(new Set(process.neighbours.removedDigests), new Set([orphan, layer]));
});

test("what clients delete is freed without anybody waiting", bounded, async (context) => {
  const process = await MetadataProcess.start(context);
  await process.loadSnapshotters("native");
  await process.client(Leases).create({ id: "l" }, ns);
  await pullImage(process, "l");
  await process.client(Snapshots).remove({ snapshotter: "native", key: "top" }, ns);
  await process.neighbours.until(() => process.neighbours.removedSnapshots.some(({ id }) => id === 2n));
  await process.client(Leases).delete({ id: "l" }, ns);
  await process.client(Images).delete({ name: "image" }, ns);
  await process.neighbours.until(() => process.neighbours.removedDigests.length === 2);
});

test("images that have expired are deleted, and told of", bounded, async (context) => {
  const process = await MetadataProcess.start(context, { config });
  const target = { mediaType: "m", digest: manifest, size: 8n };
  const labels = { "containerd.io/gc.expire": "2020-01-01T00:00:00Z" };
  await process.client(Images).create({ image: { name: "old", target, labels } }, ns);
  await process.client(Leases).create({ id: "empty" }, ns);
  await process.client(Leases).delete({ id: "empty", sync: true }, ns);
  assert.deepEqual((await process.client(Images).list({}, ns)).images, []);
  assert.deepEqual(await topics(process, 2), ["gc /images/create", "gc /images/delete"]);
});

test("snapshots of a snapshotter that is not loaded wait for it", bounded, async (context) => {
  const process = await MetadataProcess.start(context, { config });
  await process.loadSnapshotters("native");
  await pullImage(process);
  await process.loadSnapshotters("other");
  await process.client(Images).delete({ name: "image", sync: true }, ns);
  assert.deepEqual(process.neighbours.removedSnapshots, []);
  await process.client(SnapshotIndex).reconcileSnapshots({ snapshotters: [{ name: "native", ids: [2n] }] });
  await process.client(Leases).create({ id: "empty" }, ns);
  await process.client(Leases).delete({ id: "empty", sync: true }, ns);
  assert.deepEqual(
    process.neighbours.removedSnapshots.map(({ id }) => id),
    [2n],
    "the other had no directory any more",
  );
});

test(
  "mounts live while a lease, a label or what they refer back to holds them, and are taken off before their snapshots go",
  bounded,
  async (context) => {
    const process = await MetadataProcess.start(context, { config });
    const { neighbours } = process;
    const mounts = process.client(MountIndex);
    const leases = process.client(Leases);
    const containers = process.client(Containers);
    await leases.create({ id: "l" }, ns);
    await containers.create({ container: { id: "c", runtime: { name: "r" }, spec: {} } }, ns);
    await containers.create(
      {
        container: {
          id: "referring",
          runtime: { name: "r" },
          spec: {},
          labels: { "containerd.io/gc.ref.mount": "labelled" },
        },
      },
      ns,
    );
    const add = async (name: string, rest: object = {}): Promise<bigint> =>
      (await mounts.addMount({ namespace, name, ...rest })).id;
    const collectNow = async (): Promise<void> => {
      await leases.create({ id: "now" }, ns);
      await leases.delete({ id: "now", sync: true }, ns);
    };
    const backReference = (kind: string, value: string) => ({ labels: { [`containerd.io/gc.bref.${kind}`]: value } });
    const free = await add("free");
    const leased = await add("leased", { lease: "l" });
    const labelled = await add("labelled");
    const ofContainer = await add("of-container", backReference("container/x", "c"));
    const ofNobody = await add("of-nobody", backReference("image", "absent"));
    await assert.rejects(add("free"), { message: 'mount "free": already exists' });
    await assert.rejects(add("other", { lease: "absent" }), { message: "lease does not exist: not found" });
    assert.deepEqual((await leases.listResources({ id: "l" }, ns)).resources, [], "clients do not see it");
    const type = "mounts";
    await assert.rejects(leases.addResource({ id: "l", resource: { type, id: "free" } }, ns), {
      message: "resource type mounts not supported yet: not implemented",
    });

    await collectNow();
    assert.deepEqual(new Set(neighbours.removedMounts), new Set([free, ofNobody]));
    assert.ok((await add("free")) > ofNobody, "a name is free at once, an id is never used again");

    await leases.delete({ id: "l" }, ns);
    await containers.delete({ id: "c" }, ns);
    await containers.delete({ id: "referring" }, ns);
    neighbours.removalRefused = true;
    await collectNow();
    neighbours.removalRefused = false;
    await collectNow();
    assert.deepEqual(new Set(neighbours.removedMounts).intersection(new Set([leased, labelled, ofContainer])).size, 3);

    const whole = await add("whole");
    const removed = await add("removed");
    assert.equal((await mounts.removeMount({ namespace, name: "removed" })).id, removed);
    await assert.rejects(mounts.removeMount({ namespace, name: "removed" }), {
      message: 'missing mount "removed" bucket: not found',
    });
    await add("of-before-a-reboot");
    assert.deepEqual((await mounts.reconcileMounts({ ids: [whole, removed, 99n] })).orphanIds, [removed, 99n]);
    assert.ok((await add("of-before-a-reboot")) > removed);
    await assert.rejects(add("whole"), { message: 'mount "whole": already exists' });
  },
);
