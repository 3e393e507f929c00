import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import test from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { digestOf } from "#containerd/digest.ts";
import type { UnpackRequestSchema } from "#gen/flotilla/layers/v1/layers_pb.ts";
import { MemberType } from "#tar/tar-format.ts";
import type { Snapshotter } from "../../services/snapshots/domain/snapshotter.ts";
import type { SnapshotDriver } from "../../services/snapshots/drivers/driver.ts";
import { chainIdsOf } from "../../services/snapshots/layers/chains/chain-id.ts";
import { layerOf } from "./layer-rig.ts";
import { chainOf, completeOf, describe, namespace, startOf, UnpackRig } from "./unpack-rig.ts";

type Request = MessageInitShape<typeof UnpackRequestSchema>;

const base = layerOf(
  { name: "etc/", mode: 0o750, user: 7, group: 8, attributes: { "user.note": "kept" } },
  { name: "etc/a", data: "a" },
  { name: "etc/b", data: "b" },
  { name: "usr/" },
  { name: "usr/old", data: "old" },
);
const middle = layerOf(
  { name: "etc/.wh.a" },
  // The directory `etc` is implied: it must look as the one below.
  { name: "etc/c", data: "c" },
  { name: "opt/new/file", data: "new" },
);
const top = layerOf({ name: "usr/" }, { name: "usr/.wh..wh..opq" }, { name: "usr/new", data: "new" });

test("with sync_fs a layer is written out before it is committed, and again when its directories have changed", async (context) => {
  const rig = await UnpackRig.open(context);
  const [first, second] = [base, middle].map((archive) => rig.put(archive));
  assert.ok(first !== undefined && second !== undefined);
  await rig.unpack([first]);
  assert.equal(rig.writtenOut.length, 0);
  rig.syncsFileSystem = true;
  await rig.unpack([first, second]);
  assert.deepEqual(
    rig.writtenOut.map((text) => text.split(" ")[0]),
    ["layer", "directories"],
  );
});

for (const snapshotter of ["overlayfs", "native"]) {
  test(`${snapshotter}: a chain becomes committed snapshots with the labels and names of containerd's unpacker`, async (context) => {
    const rig = await UnpackRig.open(context);
    const layers = [base, middle, top].map((archive) => rig.put(archive));
    const [first, second, third] = chainOf(layers);
    const annotations = { "containerd.io/snapshot/cri.image-ref": "example.com/a:b", "org.example.other": "no" };
    const start = startOf(
      layers.map((layer) => describe(layer, annotations)),
      { snapshotter, labels: { color: "blue" } },
    );
    const { told, chainId, committed, sizes } = await rig.call([start]);
    assert.equal(chainId, third);
    assert.equal(committed, 3);
    assert.deepEqual(
      told.filter((text) => text.endsWith("committed")),
      ["0 committed", "1 committed", "2 committed"],
      "from the lowest up",
    );
    assert.deepEqual(
      [...sizes.values()],
      [base, middle, top].map(({ length }) => BigInt(length)),
    );
    assert.deepEqual(new Set(rig.committed(snapshotter)), new Set([first, second, third]));
    assert.deepEqual(rig.active(snapshotter), []);
    const record = rig.index.snapshots.get(`${snapshotter}/${third}`);
    assert.equal(record?.parent, second);
    assert.deepEqual(
      { ...record?.labels },
      {
        color: "blue",
        "containerd.io/snapshot/cri.image-ref": "example.com/a:b",
        "containerd.io/snapshot.ref": third,
        "containerd.io/snapshot/diff-id": layers[2]?.diffId,
        "containerd.io/snapshot/parent-chain-id": second,
      },
    );
    for (const { key, lease, labels, parent } of rig.index.prepared) {
      assert.match(key, /^extract-\d+-[\w-]{4} sha256:[0-9a-f]{64}$/);
      assert.equal(lease, "some-lease");
      assert.equal(labels["containerd.io/snapshot.ref"], key.split(" ")[1]);
      assert.equal(parent, snapshotter === "native" ? (labels["containerd.io/snapshot/parent-chain-id"] ?? "") : "");
    }
    assert.deepEqual(rig.labels.get(layers[0]?.digest ?? ""), { "containerd.io/uncompressed": layers[0]?.diffId });
    await rig.show(
      chainId,
      (root) => {
        assert.deepEqual(readdirSync(`${root}/etc`).sort(), ["b", "c"]);
        assert.deepEqual(readdirSync(`${root}/usr`), ["new"]);
        assert.equal(readFileSync(`${root}/opt/new/file`, "utf8"), "new");
        const { mode, uid, gid } = statSync(`${root}/etc`);
        assert.deepEqual({ mode: mode & 0o7777, uid, gid }, { mode: 0o750, uid: 7, gid: 8 });
        assert.equal(statSync(`${root}/opt`).mode & 0o7777, 0o755);
      },
      snapshotter,
    );
  });
}

test("layers are applied side by side as their bytes come, and committed in order", async (context) => {
  const rig = await UnpackRig.open(context);
  const layers = [base, middle, top].map((archive) => rig.put(archive));
  const gates = layers.map(() => Promise.withResolvers<void>());
  const requests = async function* (): AsyncGenerator<Request> {
    yield startOf(layers.map((layer) => ({ ...describe(layer), complete: false })));
    for (const index of [2, 1, 0]) {
      await gates[index]?.promise;
      yield completeOf(index);
    }
  };
  const told: string[] = [];
  const { committed } = await rig.call(requests(), undefined, (text) => {
    told.push(text);
    if (told.length === 3) {
      gates[2]?.resolve();
    } else if (text === "2 applying") {
      gates[1]?.resolve();
    } else if (text === "1 applying") {
      gates[0]?.resolve();
    }
  });
  assert.equal(committed, 3);
  assert.deepEqual(told.slice(0, 3).sort(), ["0 needed", "1 needed", "2 needed"]);
  assert.deepEqual(told.slice(3), [
    "2 applying",
    "1 applying",
    "0 applying",
    "0 committed",
    "1 committed",
    "2 committed",
  ]);
});

test("what a layer takes is counted while those below are still being made, and once", async (context) => {
  const rig = await UnpackRig.open(context);
  const [below, above] = [rig.put(base), rig.put(base)];
  const driver = rig.snapshotters.get("overlayfs")?.driver as SnapshotDriver;
  driver.measuredDirectory = () => undefined;
  const measure = driver.measure.bind(driver);
  const first = Promise.withResolvers<void>();
  const measured: bigint[] = [];
  driver.measure = (location) => {
    measured.push(location.id);
    first.resolve();
    return measure(location);
  };
  const requests = async function* (): AsyncGenerator<Request> {
    yield startOf([below, above].map((layer) => ({ ...describe(layer), complete: false })));
    yield completeOf(1);
    await first.promise;
    yield completeOf(0);
  };
  const { committed } = await rig.call(requests());
  assert.equal(committed, 2);
  assert.equal(measured.length, 2);
  assert.equal(new Set(measured).size, 2);
});

test("what a thread counts of the layer that it has written is what is recorded of it", async (context) => {
  const rig = await UnpackRig.open(context);
  const snapshotter = rig.snapshotters.get("overlayfs") as Snapshotter;
  const linked = layerOf(
    { name: "d/" },
    { name: "d/file", data: "x".repeat(10_000) },
    { name: "d/same", type: MemberType.HardLink, linkName: "d/file" },
    { name: "d/file", data: "y" },
  );
  const implying = layerOf({ name: "d/deep/file", data: "z" });
  const layers = [base, linked, implying].map((archive) => rig.put(archive));
  const measure = snapshotter.driver.measure.bind(snapshotter.driver);
  let calls = 0;
  snapshotter.driver.measure = (location) => {
    calls += 1;
    return measure(location);
  };
  await rig.unpack(layers);
  assert.equal(calls, 1, "the one whose directories have changed since");
  for (const chainId of chainIdsOf(layers.map(({ diffId }) => diffId))) {
    const name = { namespace, snapshotter: "overlayfs", key: chainId };
    const id = rig.index.snapshots.get(`overlayfs/${chainId}`)?.id ?? assert.fail(chainId);
    const location = { id, parentIds: [], kind: "committed", labels: {} } as const;
    assert.deepEqual(await snapshotter.usage(name), await measure(location));
  }
});

test("without rebase all bytes that may be needed are asked for at once, and layers come one after the other", async (context) => {
  const rig = await UnpackRig.open(context);
  const layers = [base, middle].map((archive) => rig.put(archive));
  const asked = Promise.withResolvers<void>();
  const requests = async function* (): AsyncGenerator<Request> {
    yield startOf(
      layers.map((layer) => ({ ...describe(layer), complete: false })),
      { snapshotter: "native" },
    );
    await asked.promise;
    yield completeOf(1);
    yield completeOf(0);
  };
  const { told } = await rig.call(requests(), undefined, (text) => text === "1 needed" && asked.resolve());
  assert.deepEqual(told, ["0 needed", "1 needed", "0 applying", "0 committed", "1 applying", "1 committed"]);
});

test("what is there needs no bytes, is leased, and is not touched", async (context) => {
  const rig = await UnpackRig.open(context);
  const layers = [base, middle, top].map((archive) => rig.put(archive));
  await rig.unpack(layers.slice(0, 2));
  const before = rig.index.prepared.length;
  const bytesNeverCome = layers.map((layer) => ({ ...describe(layer), complete: false }));
  const again = await rig.call([startOf(bytesNeverCome.slice(0, 2))]);
  assert.deepEqual(again.told, ["0 present", "1 present"]);
  assert.equal(again.committed, 0);
  assert.equal(rig.index.prepared.length, before + 1, "one call finds out and has the lease hold the top");
  const more = await rig.unpack(layers);
  assert.deepEqual(more.told.toSorted(), ["0 present", "1 present", "2 applying", "2 committed"]);
  assert.equal(more.committed, 1);
  assert.deepEqual(await rig.call([startOf([])]), { told: [], sizes: new Map(), chainId: "", committed: 0 });
});

test("two calls for one chain, or for chains with the same beginning, unpack each layer once", async (context) => {
  const rig = await UnpackRig.open(context);
  const layers = [base, middle, top].map((archive) => rig.put(archive));
  const other = [...layers.slice(0, 2), rig.put(layerOf({ name: "other", data: "other" }))];
  const all = await Promise.all([rig.unpack(layers), rig.unpack(layers), rig.unpack(other), rig.unpack(layers)]);
  assert.equal(
    all.reduce((sum, { committed }) => sum + committed, 0),
    4,
  );
  assert.equal(rig.index.committed.length, 4);
  assert.deepEqual(rig.active(), []);
  assert.equal(rig.committed().length, 4);
});

test("whoever waited takes over when the first call fails", async (context) => {
  const rig = await UnpackRig.open(context);
  const layers = [base, middle].map((archive) => rig.put(archive));
  const cancel = new AbortController();
  const firstHolds = Promise.withResolvers<void>();
  const never = async function* (): AsyncGenerator<Request> {
    yield startOf(layers.map((layer) => ({ ...describe(layer), complete: false })));
    await new Promise<void>((resolve) => cancel.signal.addEventListener("abort", () => resolve()));
  };
  const first = rig.call(never(), cancel.signal, (text) => text === "0 needed" && firstHolds.resolve());
  first.catch(() => undefined);
  await firstHolds.promise;
  const second = rig.unpack(layers);
  cancel.abort();
  await assert.rejects(first);
  const { committed, told } = await second;
  assert.equal(committed, 2);
  assert.ok(told.includes("0 committed") && told.includes("1 committed"));
  assert.deepEqual(rig.active(), []);
});

test("errors name the layer, in containerd's words, and leave none of the snapshots", async (context) => {
  const rig = await UnpackRig.open(context);
  const good = rig.put(base);
  const missing = rig.put(layerOf({ name: "x" }), { stored: false });
  const archive = layerOf({ name: "y" });
  const wrongDiffId = { ...rig.put(archive), diffId: digestOf("something else") };
  const otherBytes = { ...rig.put(layerOf({ name: "z" })), digest: digestOf("not these bytes") };
  const wrongSize = { ...rig.put(layerOf({ name: "w" })) };
  rig.store(Buffer.from("not an archive, and not these bytes"));
  const noArchive = { digest: digestOf("not an archive, and not these bytes"), diffId: digestOf("x"), sizeBytes: 0 };
  const mediaType = "application/vnd.oci.image.layer.v1.tar+gzip";
  const key = /"extract-\d+-[\w-]{4} sha256:[0-9a-f]{64}"/.source;
  const cases = [
    [
      missing,
      ErrorKind.NotFound,
      `failed to extract layer \\(.* ${missing.digest}\\) to overlayfs as ${key}: .*not found`,
    ],
    [
      wrongDiffId,
      ErrorKind.Unknown,
      `wrong diff id "${digestOf(archive)}" calculated on extraction "${wrongDiffId.diffId}", desc "${wrongDiffId.digest}"`,
    ],
    [otherBytes, ErrorKind.NotFound, otherBytes.digest],
    [
      { ...wrongSize, sizeBytes: 1 },
      ErrorKind.FailedPrecondition,
      `failed to extract layer .*: unexpected commit size ${wrongSize.sizeBytes}, expected 1: failed precondition`,
    ],
    [
      noArchive,
      ErrorKind.Unknown,
      `failed to extract layer \\(${mediaType.replace("+", "\\+")} ${noArchive.digest}\\)`,
    ],
  ] as const;
  for (const [bad, kind, text] of cases) {
    await assert.rejects(rig.unpack([good, bad]), (error: unknown) => {
      assert.ok(isFailure(error, kind), String(error));
      assert.match(error.message, new RegExp(text));
      return true;
    });
    assert.deepEqual(rig.active(), [], text);
    assert.ok(rig.committed().every((name) => name === good.diffId));
  }
  assert.deepEqual(rig.left, []);
});

test("a blob whose bytes are not those of its digest is refused", async (context) => {
  const rig = await UnpackRig.open(context);
  const layer = rig.put(layerOf({ name: "a", data: "right" }));
  const other = rig.put(layerOf({ name: "a", data: "wrong" }));
  const { readFileSync: read, writeFileSync: write } = await import("node:fs");
  write(`${rig.path}/blobs/${layer.digest}`, read(`${rig.path}/blobs/${other.digest}`));
  await assert.rejects(rig.unpack([{ ...layer, sizeBytes: 0 }]), (error: unknown) => {
    assert.ok(isFailure(error, ErrorKind.Unknown), String(error));
    assert.match(error.message, new RegExp(`wrong diff id "${other.diffId}" calculated .* desc "${layer.digest}"`));
    return true;
  });
  assert.deepEqual(rig.active(), []);
  assert.deepEqual(rig.committed(), []);
});

test("calls that are not understood are refused", async (context) => {
  const rig = await UnpackRig.open(context);
  const layer = describe(rig.put(base));
  const waiting = { ...layer, complete: false };
  const cases: [Request[], ErrorKind][] = [
    [[], ErrorKind.InvalidArgument],
    [[completeOf(0)], ErrorKind.InvalidArgument],
    [[startOf([waiting]), completeOf(1)], ErrorKind.InvalidArgument],
    [[startOf([waiting]), startOf([layer])], ErrorKind.InvalidArgument],
    [[startOf([layer], { snapshotter: "zfs" })], ErrorKind.InvalidArgument],
    [[startOf([layer], { namespace: "" })], ErrorKind.InvalidArgument],
    [[startOf([{ ...layer, diffId: "sha256:no" }])], ErrorKind.InvalidArgument],
    [[startOf(Array.from({ length: 501 }, () => layer))], ErrorKind.InvalidArgument],
    [[startOf([waiting])], ErrorKind.Aborted],
  ];
  for (const [messages, kind] of cases) {
    await assert.rejects(rig.call(messages), (error: unknown) => {
      assert.ok(isFailure(error, kind), String(error));
      return true;
    });
    assert.deepEqual(rig.active(), []);
  }
});

test("a call that is cancelled while a layer is written ends soon and leaves nothing", async (context) => {
  const rig = await UnpackRig.open(context);
  const members = Array.from({ length: 40_000 }, (_, index) => ({ name: `file-${index}`, data: "x" }));
  const large = rig.put(layerOf(...members));
  const cancel = new AbortController();
  const call = rig.call([startOf([describe(large)])], cancel.signal, (text) => text === "0 applying" && cancel.abort());
  await assert.rejects(call);
  const deadline = performance.now() + 20_000;
  while (rig.active().length > 0 && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.deepEqual(rig.active(), []);
  assert.deepEqual(rig.committed(), []);
  assert.ok(!existsSync(`${rig.path}/overlayfs/snapshots/1/fs/file-39999`), "it ended early");
});

test("a layer's own order to be applied one at a time is kept", async (context) => {
  const rig = await UnpackRig.open(context);
  const layers = [base, middle, top].map((archive) => rig.put(archive));
  const { told, committed } = await rig.unpack(layers, { sideBySideMax: 1 });
  assert.equal(committed, 3);
  assert.equal(told.filter((text) => text.endsWith("applying")).length, 3);
});
