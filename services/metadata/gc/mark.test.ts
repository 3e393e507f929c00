import assert from "node:assert/strict";
import test from "node:test";
import { create } from "@bufbuild/protobuf";
import { digestOf } from "#containerd/digest.ts";
import { ContainerSchema } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { ImageSchema } from "#gen/containerd/services/images/v1/images_pb.ts";
import { Kind } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { findUnreferenced, rowsPerSliceMax } from "./mark.ts";
import { TestStores } from "./test-stores.ts";

const namespace = "n";
const hourMs = 3_600_000;

/** Makes records by short names and tells which of them nothing holds. */
class Scene implements Disposable {
  readonly #opened = new TestStores();
  readonly #names = new Map<string, string>();

  [Symbol.dispose](): void {
    this.#opened[Symbol.dispose]();
  }

  async blob(name: string, labels: Record<string, string> = {}, lease = ""): Promise<void> {
    this.#names.set(digestOf(name), name);
    const blob = { namespace, lease, ref: name, digest: digestOf(name), size: 1n };
    await this.#opened.stores.ingests.commit({ ...blob, labels: prefixed(labels) });
  }

  async image(name: string, target: string, labels: Record<string, string> = {}): Promise<void> {
    const descriptor = { mediaType: "m", digest: digestOf(target), size: 1n };
    const message = create(ImageSchema, { name, labels: prefixed(labels), target: descriptor });
    await this.#opened.stores.images.create(namespace, message, { lease: "", sourceDateEpoch: undefined });
  }

  async snapshot(key: string, parent = "", labels: Record<string, string> = {}): Promise<void> {
    const name = { namespace, snapshotter: "native", lease: "", labels: {} };
    await this.#opened.stores.snapshots.prepare({ ...name, key: `${key}-active`, parent, kind: Kind.ACTIVE });
    const commit = { ...name, key: `${key}-active`, name: key, labels: prefixed(labels), parent: "" };
    await this.#opened.stores.snapshots.commit({ ...commit, usage: undefined, backendName: "" });
  }

  async container(id: string, snapshotKey: string, labels: Record<string, string> = {}): Promise<void> {
    const message = { id, labels: prefixed(labels), runtime: { name: "r" }, spec: {}, snapshotter: "native" };
    await this.#opened.stores.containers.create(namespace, create(ContainerSchema, { ...message, snapshotKey }));
  }

  async lease(id: string, labels: Record<string, string>, ...resources: [type: string, id: string][]): Promise<void> {
    await this.#opened.stores.leases.create(namespace, id, prefixed(labels));
    for (const [type, resource] of resources) {
      await this.#opened.stores.leases.addResource(namespace, id, { type, id: resource });
    }
  }

  async ingest(ref: string, lease = ""): Promise<void> {
    await this.#opened.stores.ingests.open({ namespace, ref, lease, expected: "", total: 0n });
  }

  /** Text of a time so many hours from now. */
  inHours(hours: number): string {
    return new Date(this.#opened.nowMs + hours * hourMs).toISOString();
  }

  pass(hours: number): void {
    this.#opened.nowMs += hours * hourMs;
  }

  /** The names of what nothing holds, sorted. */
  async unheld(): Promise<string[]> {
    const { graph, groups } = await this.find(async () => undefined);
    return groups
      .flat()
      .map((node) => graph.resource(node).key)
      .map((key) => this.#names.get(key) ?? key)
      .sort();
  }

  async find(pause: () => Promise<void>): ReturnType<typeof findUnreferenced> {
    const reader = this.#opened.stores.records.openSnapshot();
    try {
      return await findUnreferenced(reader, this.#opened.nowMs, pause);
    } finally {
      reader.close();
    }
  }
}

function prefixed(labels: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(labels).map(([key, value]) => [`containerd.io/gc.${key}`, value]));
}

test("images hold what they point at and what that refers to", async () => {
  using scene = new Scene();
  await scene.blob("manifest", { "ref.content.config": digestOf("config"), "ref.content.l.0": digestOf("layer") });
  await scene.blob("config", { "ref.snapshot.native": "top" });
  await scene.blob("layer");
  await scene.blob("loose");
  await scene.snapshot("bottom");
  await scene.snapshot("top", "bottom");
  await scene.snapshot("other");
  assert.equal((await scene.unheld()).length, 7);
  await scene.image("i", "manifest");
  assert.deepEqual(await scene.unheld(), ["loose", "native/other"]);
});

test("images that have expired are held by others alone", async () => {
  using scene = new Scene();
  await scene.blob("b");
  await scene.image("i", "b", { expire: scene.inHours(1) });
  assert.deepEqual(await scene.unheld(), []);
  scene.pass(2);
  assert.deepEqual(await scene.unheld(), ["b", "i"]);
  await scene.container("c", "", { "ref.image": "i" });
  assert.deepEqual(await scene.unheld(), []);
});

test("an expired image lives with what it refers back to", async () => {
  using scene = new Scene();
  await scene.blob("b");
  await scene.image("i", "b", { expire: scene.inHours(-1), "bref.container": "c" });
  assert.deepEqual(await scene.unheld(), ["b", "i"]);
  await scene.container("c", "");
  assert.deepEqual(await scene.unheld(), []);
});

test("leases hold their resources until they expire", async () => {
  using scene = new Scene();
  await scene.blob("a", { "ref.content": digestOf("b") });
  await scene.blob("b");
  await scene.lease("l", { expire: scene.inHours(1) }, ["content", digestOf("a")]);
  assert.deepEqual(await scene.unheld(), []);
  scene.pass(2);
  assert.deepEqual(await scene.unheld(), ["a", "b", "l"]);
});

test("flat leases hold resources without what their labels refer to", async () => {
  using scene = new Scene();
  await scene.blob("a", { "ref.content": digestOf("b") });
  await scene.blob("b");
  await scene.snapshot("bottom", "", { "ref.content": digestOf("b") });
  await scene.snapshot("top", "bottom");
  await scene.blob("target", { "ref.content": digestOf("b") });
  await scene.image("i", "target", { expire: scene.inHours(-1), "ref.content": digestOf("b") });
  await scene.lease("f", { flat: "1" }, ["content", digestOf("a")], ["snapshots/native", "top"], ["images", "i"]);
  assert.deepEqual(await scene.unheld(), ["b"]);
});

test("a lease is not flat by a label without a value", async () => {
  using scene = new Scene();
  await scene.blob("a", { "ref.content": digestOf("b") });
  await scene.blob("b");
  await scene.lease("l", { flat: "" }, ["content", digestOf("a")]);
  assert.deepEqual(await scene.unheld(), []);
});

test("conditional references count while the snapshot was used as they ask", async () => {
  using scene = new Scene();
  await scene.blob("recent", { "cond.snapshot.native": "usedat<2h|a" });
  await scene.blob("old", { "cond.snapshot.native/x": "usedat>2h,usedat<1s|b" });
  await scene.blob("unread", { "cond.snapshot.native": "usedat<2 hours|c" });
  await scene.image("i", "recent", { "ref.content.1": digestOf("old"), "ref.content.2": digestOf("unread") });
  for (const key of ["a", "b", "c"]) {
    await scene.snapshot(key, "", { "cond.value-usedat": scene.inHours(-1) });
  }
  await scene.snapshot("never", "");
  assert.deepEqual(await scene.unheld(), ["native/b", "native/c", "native/never"]);
  scene.pass(2);
  assert.deepEqual(await scene.unheld(), ["native/a", "native/c", "native/never"]);
});

test("back references lead through what does not exist", async () => {
  using scene = new Scene();
  await scene.blob("a", { "bref.image": "missing" });
  await scene.blob("root", { root: "1", "ref.image": "missing" });
  await scene.snapshot("s", "", { "bref.content": digestOf("a"), "bref.snapshot.native": "nobody" });
  assert.deepEqual(await scene.unheld(), []);
});

test("ingests are kept for a day, or as long as their lease", async () => {
  using scene = new Scene();
  await scene.lease("l", {});
  await scene.ingest("free");
  await scene.ingest("leased", "l");
  assert.deepEqual(await scene.unheld(), []);
  scene.pass(25);
  assert.deepEqual(await scene.unheld(), ["free"]);
});

test("marking reads a bounded number of rows between pauses", { timeout: 60_000 }, async () => {
  using scene = new Scene();
  const blobs = 5 * rowsPerSliceMax;
  await Promise.all(Array.from({ length: blobs }, (_, number) => scene.blob(`${number}`, { root: "1" })));
  let pauses = 0;
  const { groups } = await scene.find(async () => {
    pauses += 1;
  });
  assert.deepEqual(groups, []);
  assert.ok(pauses >= blobs / rowsPerSliceMax, `${pauses} pauses`);
});
