import assert from "node:assert/strict";
import test from "node:test";
import { create, fromBinary } from "@bufbuild/protobuf";
import * as fc from "fast-check";
import { isFailure } from "#base/errors.ts";
import { digestOf } from "#containerd/digest.ts";
import { ContainerSchema } from "#gen/containerd/services/containers/v1/containers_pb.ts";
import { InfoSchema as BlobInfoSchema } from "#gen/containerd/services/content/v1/content_pb.ts";
import { ImageSchema } from "#gen/containerd/services/images/v1/images_pb.ts";
import { LeaseSchema } from "#gen/containerd/services/leases/v1/leases_pb.ts";
import { Kind, InfoSchema as SnapshotInfoSchema } from "#gen/containerd/services/snapshots/v1/snapshots_pb.ts";
import { SandboxSchema } from "#gen/containerd/types/sandbox_pb.ts";
import type { Database } from "#sqlite/open.ts";
import type { Stores } from "../stores.ts";
import { collectGarbage } from "./collect.ts";
import { TestFiles, TestStores } from "./test-stores.ts";

const namespaces = ["n", "n", "n", "m"];
const digests = Array.from({ length: 3 }, (_, number) => digestOf(String(number)));
const names = ["a", "b"];
const gc = "containerd.io/gc.";
const hourMs = 3_600_000;
const startMs = Date.UTC(2026, 0, 1);

const oneOf = <T>(values: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...values);
const digest = oneOf(digests);
const name = oneOf(names);
const time = fc.integer({ min: -3, max: 6 }).map((hours) => new Date(startMs + hours * hourMs).toISOString());

const label: fc.Arbitrary<[string, string]> = fc.oneof(
  fc.tuple(oneOf(["ref.content", "ref.content.x", "bref.content/y", "ref.contents"]), digest),
  fc.tuple(oneOf(["ref.image", "bref.image.z", "bref.container"]), name),
  fc.tuple(oneOf(["ref.snapshot.native", "ref.snapshot.native/q", "bref.snapshot.native"]), name),
  fc
    .tuple(fc.constant("cond.snapshot.native"), fc.tuple(oneOf(["<2h", ">2h"]), name))
    .map(([key, [condition, target]]): [string, string] => [key, `usedat${condition}|${target}`]),
  fc.tuple(oneOf(["cond.value-usedat", "expire", "expire"]), time),
  fc.tuple(oneOf(["flat", "root.x"]), fc.constant("yes")),
);
const labels = fc
  .array(label, { maxLength: 3 })
  .map((pairs) => Object.fromEntries(pairs.map(([key, value]) => [`${gc}${key}`, value])));

type Step = (stores: Stores, files: TestFiles, clock: TestStores) => Promise<unknown>;

const inNamespace = oneOf(namespaces);
const lease = oneOf(["", "", "", "a", "b"]);
const leaseLabels = oneOf<Record<string, string>>([
  {},
  { [`${gc}flat`]: "yes" },
  { [`${gc}expire`]: new Date(startMs + 5 * hourMs).toISOString() },
]);

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ namespace: inNamespace, lease, digest, labels }).map(
    (blob): Step =>
      async ({ ingests }, files) => {
        files.digests.add(blob.digest);
        await ingests.commit({ ...blob, ref: "x", size: 1n });
      },
  ),
  fc.record({ namespace: inNamespace, lease, ref: name, expected: oneOf(["", ...digests]) }).map(
    (ingest): Step =>
      ({ ingests }) =>
        ingests.open({ ...ingest, total: 0n }),
  ),
  fc.record({ namespace: inNamespace, name, digest, labels, lease }).map(
    (image): Step =>
      async ({ images }) => {
        const target = { mediaType: "m", digest: image.digest, size: 1n, annotations: {} };
        const message = create(ImageSchema, { name: image.name, labels: image.labels, target });
        const options = { lease: image.lease, sourceDateEpoch: undefined };
        await images
          .create(image.namespace, message, options)
          .catch(() => images.update(image.namespace, message, [], options));
      },
  ),
  fc.record({ namespace: inNamespace, id: name, key: oneOf(["", ...names]), labels }).map(
    (container): Step =>
      ({ containers }) => {
        const runtime = { name: "r" };
        const snapshotter = container.key === "" ? "" : "native";
        const message = { id: container.id, labels: container.labels, runtime, spec: {}, snapshotter };
        return containers.create(
          container.namespace,
          create(ContainerSchema, { ...message, snapshotKey: container.key }),
        );
      },
  ),
  fc.record({ namespace: inNamespace, id: name, labels }).map(
    (sandbox): Step =>
      ({ sandboxes }) =>
        sandboxes.create(sandbox.namespace, create(SandboxSchema, { sandboxId: sandbox.id, labels: sandbox.labels })),
  ),
  fc.record({ namespace: inNamespace, lease, key: name, parent: oneOf(["", ...names]), labels }).map(
    (snapshot): Step =>
      async ({ snapshots }, files) => {
        const { id } = await snapshots.prepare({ ...snapshot, snapshotter: "native", kind: Kind.ACTIVE });
        files.snapshots.add(id);
      },
  ),
  fc.record({ namespace: inNamespace, lease, key: name, name, labels }).map(
    (snapshot): Step =>
      ({ snapshots }) =>
        snapshots.commit({ ...snapshot, snapshotter: "native", parent: "", usage: undefined, backendName: "" }),
  ),
  fc.record({ namespace: inNamespace, id: name, labels: leaseLabels }).map(
    (made): Step =>
      ({ leases }) =>
        leases.create(made.namespace, made.id, made.labels),
  ),
  fc
    .record({
      namespace: inNamespace,
      id: name,
      resource: fc.oneof(
        digest.map((id) => ({ type: "content", id })),
        name.map((id) => ({ type: "images", id })),
        name.map((id) => ({ type: "ingests", id })),
        name.map((id) => ({ type: "snapshots/native", id })),
      ),
    })
    .map(
      ({ namespace, id, resource }): Step =>
        ({ leases }) =>
          leases.addResource(namespace, id, resource),
    ),
  fc
    .record({ namespace: inNamespace, name, digest })
    .chain((target) =>
      oneOf<Step>([
        ({ images }) => images.remove(target.namespace, target.name, "", ""),
        ({ containers }) => containers.remove(target.namespace, target.name),
        ({ leases }) => leases.remove(target.namespace, target.name),
        ({ blobs }) => blobs.remove(target.namespace, target.digest, ""),
        ({ sandboxes }) => sandboxes.remove(target.namespace, target.name),
        ({ ingests }) => ingests.abort(target.namespace, target.name, ""),
        ({ snapshots }) =>
          snapshots.remove({ namespace: target.namespace, snapshotter: "native", key: target.name }, ""),
      ]),
    ),
  oneOf([1, 1, 2, 25]).map(
    (hours): Step =>
      async (_stores, _files, clock) => {
        clock.nowMs += hours * hourMs;
      },
  ),
  fc.constant<Step>((stores, files) => collect(stores, files)),
);

async function collect(stores: Stores, files: TestFiles): Promise<void> {
  const { records, releases } = stores;
  const onFilesLeft = (error: unknown): never => assert.fail(String(error));
  const { unfinished } = await collectGarbage({ records, releases, stores, owners: files, onFilesLeft });
  assert.equal(unfinished, false);
}

/** All records, as `<kind> <namespace> <key>`, with what containerd's rules look at. */
interface Dump {
  readonly records: Map<string, DumpedRecord>;
  readonly leased: readonly { readonly namespace: string; readonly lease: string; readonly record: string }[];
}

interface DumpedRecord {
  readonly namespace: string;
  readonly kind: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Records that it refers to by itself. */
  readonly structural: readonly string[];
  readonly expiresMs?: number | null;
}

function dump(database: Database): Dump {
  const records = new Map<string, DumpedRecord>();
  const rows = <R>(sql: string): R[] => database.prepare<[], R>(sql).all();
  type Row = { namespace: string; message: Uint8Array };
  const add = (key: string, record: DumpedRecord): void => {
    records.set(`${record.kind} ${record.namespace} ${key}`, record);
  };
  for (const { namespace, message } of rows<Row>("SELECT * FROM blobs")) {
    const info = fromBinary(BlobInfoSchema, message);
    add(info.digest, { namespace, kind: "content", labels: info.labels, structural: [] });
  }
  for (const { namespace, message } of rows<Row>("SELECT * FROM images")) {
    const image = fromBinary(ImageSchema, message);
    const structural = [`content ${namespace} ${image.target?.digest}`];
    add(image.name, { namespace, kind: "image", labels: image.labels, structural });
  }
  for (const { namespace, message } of rows<Row>("SELECT * FROM containers")) {
    const { id, labels, snapshotter, snapshotKey } = fromBinary(ContainerSchema, message);
    const structural = snapshotter === "" ? [] : [`snapshot ${namespace} ${snapshotKey}`];
    add(id, { namespace, kind: "container", labels, structural });
  }
  for (const { namespace, message } of rows<Row>("SELECT * FROM sandboxes")) {
    const sandbox = fromBinary(SandboxSchema, message);
    add(sandbox.sandboxId, { namespace, kind: "sandbox", labels: sandbox.labels, structural: [] });
  }
  for (const { namespace, message } of rows<Row>("SELECT * FROM leases")) {
    const { id, labels } = fromBinary(LeaseSchema, message);
    add(id, { namespace, kind: "lease", labels, structural: [] });
  }
  for (const { namespace, message } of rows<Row>("SELECT * FROM snapshots")) {
    const info = fromBinary(SnapshotInfoSchema, message);
    const structural = info.parent === "" ? [] : [`snapshot ${namespace} ${info.parent}`];
    add(info.name, { namespace, kind: "snapshot", labels: info.labels, structural });
  }
  type IngestRow = { namespace: string; ref: string; expected: string; expires_ms: number | null };
  for (const row of rows<IngestRow>("SELECT * FROM ingests")) {
    const structural = row.expected === "" ? [] : [`content ${row.namespace} ${row.expected}`];
    add(row.ref, { namespace: row.namespace, kind: "ingest", labels: {}, structural, expiresMs: row.expires_ms });
  }
  type LeasedRow = { namespace: string; lease: string; type: string; id: string };
  const kinds: Record<string, string> = { content: "content", images: "image", ingests: "ingest" };
  const leased = rows<LeasedRow>("SELECT * FROM lease_resources").map(({ namespace, lease, type, id }) => ({
    namespace,
    lease,
    record: `${kinds[type] ?? "snapshot"} ${namespace} ${id}`,
  }));
  return { records, leased };
}

/** Says which records are kept, from the labels alone and with no regard to speed. */
function expectedRecords({ records, leased }: Dump, nowMs: number): Set<string> {
  const isExpired = ({ labels }: DumpedRecord): boolean => nowMs > Date.parse(labels[`${gc}expire`] ?? "");
  const states = new Set<string>();
  for (const [id, record] of records) {
    const hasRootLabel = Object.keys(record.labels).some((key) => key.startsWith(`${gc}root`));
    const isRoot =
      ["container", "sandbox"].includes(record.kind) ||
      (["image", "lease"].includes(record.kind) && !isExpired(record)) ||
      (["content", "snapshot"].includes(record.kind) && hasRootLabel) ||
      (record.kind === "ingest" && typeof record.expiresMs === "number" && nowMs <= record.expiresMs);
    if (isRoot) {
      states.add(`whole ${id}`);
    }
  }
  for (const { namespace, lease, record } of leased) {
    const id = `lease ${namespace} ${lease}`;
    const holder = records.get(id);
    if (holder !== undefined && states.has(`whole ${id}`)) {
      states.add(`${holder.labels[`${gc}flat`] === undefined ? "whole" : "flat"} ${record}`);
    }
  }
  const labelEdges = [...records].flatMap(([id, record]) => readEdges(id, record, records, nowMs));
  for (let before = -1; before !== states.size; ) {
    before = states.size;
    for (const [id, { structural }] of records) {
      for (const state of ["whole", "flat"].filter((prefix) => states.has(`${prefix} ${id}`))) {
        for (const target of structural) {
          states.add(`${state} ${target}`);
        }
      }
    }
    for (const [from, to] of labelEdges) {
      if (states.has(`whole ${from}`)) {
        states.add(`whole ${to}`);
      }
    }
  }
  return new Set([...records.keys()].filter((id) => states.has(`whole ${id}`) || states.has(`flat ${id}`)));
}

function readEdges(id: string, record: DumpedRecord, records: Dump["records"], nowMs: number): [string, string][] {
  const { namespace, kind, labels: own } = record;
  return Object.entries(own).flatMap(([key, value]): [string, string][] => {
    const reference = /^containerd\.io\/gc\.(b?ref)\.(content|image|container|snapshot\.native)([./].*)?$/.exec(key);
    const target = `${(reference?.[2] ?? "").replace(".native", "")} ${namespace} ${value}`;
    if (reference?.[1] === "ref" && !["lease", "ingest"].includes(kind)) {
      return [[id, target]];
    }
    if (reference?.[1] === "bref" && !["lease", "ingest", "sandbox"].includes(kind)) {
      return [[target, id]];
    }
    const condition = /^usedat([<>])2h\|(.*)$/.exec(key === `${gc}cond.snapshot.native` ? value : "");
    if (condition === null || !["content", "image"].includes(kind)) {
      return [];
    }
    const snapshot = `snapshot ${namespace} ${condition[2]}`;
    const agoMs = nowMs - Date.parse(records.get(snapshot)?.labels[`${gc}cond.value-usedat`] ?? "");
    const holds = condition[1] === "<" ? agoMs < 2 * hourMs : agoMs > 2 * hourMs;
    return holds ? [[id, snapshot]] : [];
  });
}

test("a collection removes exactly what nothing holds, with its files", { timeout: 120_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 60, size: "max" }), async (steps) => {
      using opened = new TestStores();
      const { stores } = opened;
      const files = new TestFiles(stores);
      const { database } = stores.records;
      await stores.snapshotters.reconcile([{ name: "native", ids: [], proxied: false }]);
      for (const run of steps) {
        await run(stores, files, opened).catch((error: unknown) => assert.ok(isFailure(error), String(error)));
      }
      const before = dump(database);
      const expected = expectedRecords(before, opened.nowMs);
      await collect(stores, files);
      assert.deepEqual(new Set(dump(database).records.keys()), expected);

      const column = (sql: string): unknown[] => database.prepare(sql).pluck().safeIntegers().all();
      const named = column("SELECT digest FROM blobs UNION SELECT expected FROM ingests WHERE expected != ''");
      assert.deepEqual(files.digests, new Set(named));
      assert.deepEqual(files.snapshots, new Set(column("SELECT id FROM snapshots")));
      assert.deepEqual(column("SELECT digest FROM released_blobs"), []);
      assert.deepEqual(column("SELECT backend_ref FROM released_ingests"), []);
      assert.deepEqual(column("SELECT id FROM released_snapshots"), []);
    }),
    { numRuns: 200 },
  );
});
