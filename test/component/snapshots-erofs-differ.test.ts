import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import test from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { execa } from "execa";
import { ErrorKind, isFailure } from "#base/errors.ts";
import { defaultTable } from "#config/plugin-tables.ts";
import { PluginSettings } from "#config/settings.ts";
import { type Mount, mountAll } from "#linux/mount.ts";
import { unmountAll } from "#linux/unmount.ts";
import { MemberType } from "#tar/tar-format.ts";
import { erofsDriver } from "../../services/snapshots/drivers/erofs/driver.ts";
import { Differ } from "../../services/snapshots/layers/differ.ts";
import { ErofsDiffer } from "../../services/snapshots/layers/erofs/erofs-differ.ts";
import { readsArchives } from "../../services/snapshots/layers/erofs/mkfs.ts";
import { asUpperDirectory } from "../../services/snapshots/layers/mount-shape.ts";
import type { BlobStore } from "../../services/snapshots/layers/ports.ts";
import { LayerThreads } from "../../services/snapshots/threads/layer-threads.ts";
import { TreeThreads } from "../../services/snapshots/threads/tree-threads.ts";
import { metadataPath, readMetadata } from "../../services/snapshots/verity/metadata.ts";
import { makeMounts } from "../conformance/snapshot-driver.suite.ts";
import { lacksFileSystem } from "../kit/file-systems.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";
import { describeTree } from "../kit/tree.ts";
import { layerOf } from "./layer-rig.ts";

const skip = await lacksFileSystem("erofs");
const lacksArchives = skip || (!(await readsArchives()) && "mkfs.erofs is older than 1.7 and reads no archives");
const imageType = "application/vnd.erofs.layer.v1";
const archiveType = "application/vnd.oci.image.layer.v1.tar";
const owner = { namespace: "n", lease: "", signal: new AbortController().signal };
const location = (id: bigint, ...parentIds: bigint[]) => ({ id, parentIds, kind: "active" as const, labels: {} });

const lower = layerOf(
  { name: "etc/", mode: 0o750, user: 3, group: 4 },
  { name: "etc/kept", data: "kept", attributes: { "user.note": "note" } },
  { name: "etc/gone", data: "gone" },
  { name: "etc/link", type: MemberType.Symlink, mode: 0o777, linkName: "kept" },
  { name: "large", data: Buffer.alloc(300_000, "x") },
);
const upper = layerOf({ name: "etc/", mode: 0o700 }, { name: "etc/.wh.gone" }, { name: "etc/new", data: "new" });

async function openStand(
  resources: AsyncDisposableStack,
  settings: Partial<{ readsArchives: boolean; keepsArchives: boolean; protectsLayers: boolean }> = {},
) {
  const { path } = resources.use(await makeTemporaryDirectory("erofs"));
  const driver = await erofsDriver.open({
    root: `${path}/root`,
    settings: new PluginSettings(defaultTable(erofsDriver.manifest), [], []),
    trees: resources.use(new TreeThreads()),
  });
  const manager = (await makeMounts(`${path}/mounts`))([driver.root]);
  const unused = (): never => assert.fail("nothing is written");
  const blobs: BlobStore = {
    locate: async (_owner, digest) => `${path}/${digest}`,
    write: unused,
    abort: unused,
    setLabel: unused,
    addLabel: unused,
  };
  const parts = {
    blobs,
    threads: resources.use(new LayerThreads()),
    mounts: manager,
    temporaryMounts: `${path}/tmpmounts`,
    programs: new Map(),
    limits: { entriesMax: 0, depthMax: 0, ratioMax: 0 },
  };
  const walking = new Differ(parts);
  const differ = new ErofsDiffer({
    common: parts,
    walking,
    options: [],
    keepsArchives: false,
    readsArchives: false,
    protectsLayers: false,
    ...settings,
  });
  await mkdir(`${path}/mnt`);
  return {
    path,
    driver,
    differ,
    apply: (mediaType: string, data: Buffer, mounts: readonly Mount[]) => {
      const digest = digestOf(data);
      writeFileSync(`${path}/${digest}`, data);
      return differ.apply(owner, {
        mediaType,
        digest,
        mounts,
        payloads: new Map(),
        syncFileSystem: false,
        blobBytes: data.length,
      });
    },
    /** What a child of snapshots shows. */
    show: async (...parentIds: bigint[]) => {
      const child = { ...location(99n, ...parentIds), kind: "view" as const };
      return await manager.withActivated(await driver.mounts(child), async (system) => {
        await mountAll(system, `${path}/mnt`);
        try {
          return describeTree(`${path}/mnt`);
        } finally {
          await unmountAll(`${path}/mnt`);
        }
      });
    },
  };
}

function digestOf(data: Buffer): string {
  return `sha256:${createHash("sha256").update(data).digest("hex")}`;
}

test("what is an image already is taken as it is, compressed or not, and told by its own digest", {
  skip,
}, async () => {
  await using resources = new AsyncDisposableStack();
  const { path, driver, apply, show } = await openStand(resources);
  await mkdir(`${path}/tree`);
  writeFileSync(`${path}/tree/file`, "file");
  await execa("mkfs.erofs", ["--quiet", `${path}/image`, `${path}/tree`]);
  const image = readFileSync(`${path}/image`);
  for (const [id, mediaType, blob] of [
    [1n, imageType, image],
    [2n, `${imageType}+zstd`, zstdCompressSync(image)],
  ] as const) {
    await driver.create(location(id));
    const applied = await apply(mediaType, blob, await driver.mounts(location(id)));
    assert.deepEqual(
      [applied.digest, applied.sizeBytes, applied.usedBytes],
      [digestOf(image), image.length, blob.length],
    );
    await driver.seal?.(location(id));
    assert.deepEqual(readFileSync(`${driver.root}/snapshots/${id}/layer.erofs`), image);
    assert.deepEqual([...(await show(id)).keys()], [".", "file"]);
    assert.deepEqual(readdirSync(`${driver.root}/snapshots/${id}`).sort(), [
      ".erofslayer",
      "fs",
      "layer.erofs",
      "work",
    ]);
  }
  await assert.rejects(apply(`${imageType}+gzip`, image, await driver.mounts(location(1n))), {
    message: "unsupported erofs layer suffix: gzip",
  });
});

test("an image gets hashes where layers are protected, and loses what was known of them where they are not", {
  skip,
}, async () => {
  await using resources = new AsyncDisposableStack();
  const { path, driver, apply } = await openStand(resources, { protectsLayers: true });
  await mkdir(`${path}/tree`);
  await execa("mkfs.erofs", ["--quiet", `${path}/image`, `${path}/tree`]);
  const image = readFileSync(`${path}/image`);
  await driver.create(location(1n));
  const mounts = await driver.mounts(location(1n));
  const applied = await apply(imageType, image, mounts);
  assert.deepEqual([applied.digest, applied.sizeBytes], [digestOf(image), image.length]);
  const layer = `${driver.root}/snapshots/1/layer.erofs`;
  const { hashOffset } = await readMetadata(metadataPath(layer));
  assert.equal(hashOffset, Math.ceil(image.length / 4096) * 4096);
  assert.ok(readFileSync(layer).subarray(0, image.length).equals(image));
  const view = { ...location(2n, 1n), kind: "view" as const };
  assert.deepEqual((await driver.mounts(view))[0]?.options, [
    "ro",
    "loop",
    `X-containerd.dmverity=${metadataPath(layer)}`,
  ]);

  const unprotected = await openStand(resources);
  await unprotected.driver.create(location(1n));
  const place = `${unprotected.driver.root}/snapshots/1/layer.erofs`;
  writeFileSync(metadataPath(place), "{}");
  await unprotected.apply(imageType, image, await unprotected.driver.mounts(location(1n)));
  assert.ok(existsSync(place) && !existsSync(metadataPath(place)));
});

/** What two layers show that are applied as archives, but for the top, and the names that are then in the directory of the lower one. */
async function applyArchives(settings: Parameters<typeof openStand>[1]) {
  await using resources = new AsyncDisposableStack();
  const { path, driver, apply, show } = await openStand(resources, settings);
  for (const [id, archive] of [
    [1n, lower],
    [2n, upper],
  ] as const) {
    await driver.create(location(id));
    const mounts = await driver.mounts(location(id));
    const applied = await apply(
      `${archiveType}+gzip`,
      gzipSync(archive),
      id === 1n ? mounts : asUpperDirectory(mounts),
    );
    assert.deepEqual([applied.digest, applied.sizeBytes], [digestOf(archive), archive.length]);
    await driver.seal?.(location(id));
  }
  assert.ok(!existsSync(`${path}/tmpmounts`), "archives are unpacked into the directory itself");
  const shown = new Map([...(await show(2n, 1n))].filter(([path]) => path !== "."));
  return { shown, names: readdirSync(`${driver.root}/snapshots/1`).sort() };
}

test("archives are unpacked where mkfs.erofs reads none", { skip }, async () => {
  const { shown } = await applyArchives({});
  assert.deepEqual([...shown.keys()], ["etc", "etc/kept", "etc/link", "etc/new", "large"]);
});

for (const [title, settings] of [
  ["converted by mkfs.erofs", { readsArchives: true }],
  ["kept behind an index", { readsArchives: true, keepsArchives: true }],
] as const) {
  test(`archives are ${title}, and show the same`, { skip: lacksArchives }, async () => {
    const { shown, names } = await applyArchives(settings);
    assert.deepEqual(shown, (await applyArchives({})).shown);
    assert.deepEqual(names, [".erofslayer", "fs", "layer.erofs", "work"], "nothing half made is left");
  });
}

test("a damaged archive leaves no image, and what mkfs.erofs says is told", {
  skip: lacksArchives,
}, async () => {
  await using resources = new AsyncDisposableStack();
  const { driver, apply } = await openStand(resources, { readsArchives: true });
  await driver.create(location(1n));
  await assert.rejects(
    apply(archiveType, Buffer.alloc(4096, "no archive"), await driver.mounts(location(1n))),
    /^\w*Error: failed to convert tar to erofs: erofs apply failed: .*exit status 1$/s,
  );
  assert.ok(!existsSync(`${driver.root}/snapshots/1/layer.erofs`));
});

test("what is no layer, and mounts of other snapshotters, are refused in containerd's words", { skip }, async () => {
  await using resources = new AsyncDisposableStack();
  const { path, driver, apply } = await openStand(resources);
  await driver.create(location(1n));
  await assert.rejects(apply("text/plain", lower, await driver.mounts(location(1n))), {
    message: "unsupported media type: text/plain",
  });
  for (const [mount, message] of [
    [{ type: "bind", source: `${path}/mnt`, options: [] }, "mount layer type must be erofs-layer: not implemented"],
    [
      { type: "overlay", source: "overlay", options: [] },
      "unsupported overlay layer for erofs differ: not implemented",
    ],
    [
      { type: "tmpfs", source: "tmpfs", options: [] },
      'invalid filesystem type "tmpfs" for erofs differ: not implemented',
    ],
  ] as const) {
    await assert.rejects(apply(archiveType, lower, [mount]), (error: Error) => {
      assert.equal(error.message, message);
      return isFailure(error, ErrorKind.NotImplemented);
    });
  }
});
