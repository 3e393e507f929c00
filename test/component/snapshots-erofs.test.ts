import assert from "node:assert/strict";
import { existsSync, readdirSync, renameSync, statSync } from "node:fs";
import { chown, mkdir, writeFile } from "node:fs/promises";
import test from "node:test";
import { execa } from "execa";
import { defaultTable } from "#config/plugin-tables.ts";
import { PluginSettings } from "#config/settings.ts";
import { mountAll } from "#linux/mount.ts";
import type { SnapshotDriver, SnapshotLocation } from "../../services/snapshots/drivers/driver.ts";
import { erofsDriver } from "../../services/snapshots/drivers/erofs/driver.ts";
import { TreeThreads } from "../../services/snapshots/threads/tree-threads.ts";
import { lacksFileSystem } from "../kit/file-systems.ts";
import { until } from "../kit/processes.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";

const skip = await lacksFileSystem("erofs");

/** An open driver on a directory of its own. */
async function openDriver(
  resources: AsyncDisposableStack,
  settings: Readonly<Record<string, unknown>> = {},
  makeRoot = async (path: string): Promise<string> => `${path}/root`,
): Promise<SnapshotDriver> {
  const { path } = resources.use(await makeTemporaryDirectory("erofs"));
  const trees = resources.use(new TreeThreads());
  const table = new PluginSettings({ ...defaultTable(erofsDriver.manifest), ...settings }, [], []);
  return await erofsDriver.open({ root: await makeRoot(path), settings: table, trees });
}

const active = (id: bigint, ...parentIds: bigint[]): SnapshotLocation => ({
  id,
  parentIds,
  kind: "active",
  labels: {},
});

test("settings that make no sense are refused in containerd's words", { skip }, async () => {
  const cases: [Record<string, string>, string][] = [
    [{ dmverity_mode: "maybe" }, 'invalid dmverity_mode "maybe": must be "auto", "on", or "off"'],
    [{ default_size: "much" }, "failed to parse default_size 'much': invalid size: 'much'"],
  ];
  if (!existsSync("/sys/module/dm_verity")) {
    cases.push([{ dmverity_mode: "on" }, "failed to check dm-verity support: dm_verity module not loaded or built-in"]);
  }
  for (const [settings, message] of cases) {
    await using resources = new AsyncDisposableStack();
    await assert.rejects(openDriver(resources, settings), { message });
  }
});

test("a snapshot that was sealed and changed is sealed anew, and what it was made of goes when it has a child", {
  skip,
}, async () => {
  await using resources = new AsyncDisposableStack();
  const driver = await openDriver(resources);
  await driver.create(active(1n));
  const directory = `${driver.root}/snapshots/1`;
  await writeFile(`${directory}/fs/a`, "a");
  await driver.seal?.(active(1n));
  const { size } = statSync(`${directory}/layer.erofs`);
  await writeFile(`${directory}/fs/b`, Buffer.alloc(1 << 20, 1));
  await driver.seal?.(active(1n));
  assert.ok(statSync(`${directory}/layer.erofs`).size > size + (1 << 20) - 4096);
  assert.deepEqual(await driver.measure(active(1n)), {
    sizeBytes: BigInt(statSync(`${directory}/layer.erofs`).blocks) * 512n,
    inodes: 1n,
  });
  await Promise.all([driver.create(active(2n, 1n)), driver.create(active(3n, 1n))]);
  assert.deepEqual(readdirSync(`${directory}/fs`), []);
  assert.deepEqual(readdirSync(directory).sort(), [".erofslayer", "fs", "layer.erofs", "work"]);
  const listLeft = (): string[] => readdirSync(`${driver.root}/snapshots`).filter((name) => !/^\d+$/.test(name));
  await until(
    () => listLeft().length === 0,
    () => `${listLeft().join(" ")} is not deleted`,
  );
});

test("a crash while what an image was made of goes hinders no child", { skip }, async () => {
  await using resources = new AsyncDisposableStack();
  const driver = await openDriver(resources);
  await driver.create(active(1n));
  const directory = `${driver.root}/snapshots/1`;
  await chown(`${directory}/fs`, 1234, 2345);
  await driver.seal?.(active(1n));
  renameSync(`${directory}/fs`, `${directory}/fs-emptied`);
  await driver.create(active(2n, 1n));
  assert.equal(statSync(`${driver.root}/snapshots/2/fs`).uid, 1234);
  assert.deepEqual(readdirSync(directory).sort(), [".erofslayer", "fs", "layer.erofs", "work"]);
});

test("an image from a differ stays as it is", { skip }, async () => {
  await using resources = new AsyncDisposableStack();
  const driver = await openDriver(resources);
  await driver.create(active(1n));
  const layer = `${driver.root}/snapshots/1/layer.erofs`;
  await execa("mkfs.erofs", ["--quiet", layer, `${driver.root}/snapshots/1/fs`]);
  const { ino } = statSync(layer);
  await driver.seal?.(active(1n));
  assert.equal(statSync(layer).ino, ino);
});

test("images that somebody has merged are mounted as one, with those above on top", { skip }, async () => {
  await using resources = new AsyncDisposableStack();
  const driver = await openDriver(resources);
  await driver.create(active(1n));
  await driver.seal?.(active(1n));
  for (const [id, ...parents] of [
    [2n, 1n],
    [3n, 2n, 1n],
  ] as const) {
    await driver.create(active(id, ...parents));
    await driver.seal?.(active(id, ...parents));
  }
  await writeFile(`${driver.root}/snapshots/2/fsmeta.erofs`, "merged");
  const of = (id: number): string => `${driver.root}/snapshots/${id}/layer.erofs`;
  const mounts = await driver.mounts({ ...active(4n, 3n, 2n, 1n), kind: "view" });
  assert.deepEqual(
    mounts.slice(0, 2).map(({ source, options }) => [source, options]),
    [
      [of(3), ["ro", "loop"]],
      [`${driver.root}/snapshots/2/fsmeta.erofs`, ["ro", "loop", `device=${of(1)}`, `device=${of(2)}`]],
    ],
  );
  assert.deepEqual(mounts[2]?.options, ["lowerdir={{ overlay 0 1 }}"]);
  const merged = await driver.mounts({ ...active(5n, 2n, 1n), kind: "view" });
  assert.equal(merged.length, 1);
});

test("layers with dm-verity say so, unless it is off", { skip }, async () => {
  for (const [mode, expected] of [
    ["auto", ["ro", "loop", "X-containerd.dmverity=LAYER.dmverity"]],
    ["off", ["ro", "loop"]],
  ] as const) {
    await using resources = new AsyncDisposableStack();
    const driver = await openDriver(resources, { dmverity_mode: mode });
    await driver.create(active(1n));
    await driver.seal?.(active(1n));
    const layer = `${driver.root}/snapshots/1/layer.erofs`;
    await writeFile(`${layer}.dmverity`, "{}");
    const [mount] = await driver.mounts({ ...active(2n, 1n), kind: "view" });
    assert.deepEqual(
      mount?.options,
      expected.map((option) => option.replace("LAYER", layer)),
    );
  }
});

test("a file system without fs-verity is refused, and with it layers are sealed by the kernel", {
  skip: skip || (!existsSync("/sys/fs/ext4/features/verity") && "the kernel has no fs-verity for ext4"),
}, async () => {
  await using resources = new AsyncDisposableStack();
  const makeRoot = (features: readonly string[]) => async (path: string) => {
    await execa("truncate", ["--size=64M", `${path}/disk`]);
    await execa("mkfs.ext4", ["-q", "-b", "4096", ...features, `${path}/disk`]);
    await mkdir(`${path}/mnt`);
    await mountAll([{ type: "ext4", source: `${path}/disk`, options: ["loop"] }], `${path}/mnt`);
    return `${path}/mnt/root`;
  };
  await assert.rejects(
    openDriver(resources, { enable_fsverity: true }, makeRoot([])),
    /failed to check fsverity support on/,
  );
  const driver = await openDriver(resources, { enable_fsverity: true }, makeRoot(["-O", "verity"]));
  await driver.create(active(1n));
  await driver.seal?.(active(1n));
  const layer = `${driver.root}/snapshots/1/layer.erofs`;
  await assert.rejects(writeFile(layer, "changed", { flag: "r+" }), { code: "EPERM" });
  assert.equal((await driver.mounts({ ...active(2n, 1n), kind: "view" })).length, 1);
});
