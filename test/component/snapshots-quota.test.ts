import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import test from "node:test";
import { execa } from "execa";
import { ErrorKind, isFailure, systemErrorCode } from "#base/errors.ts";
import { defaultTable } from "#config/plugin-tables.ts";
import { PluginSettings } from "#config/settings.ts";
import { mountAll } from "#linux/mount.ts";
import { hasProjectQuota } from "#linux/project-quota.ts";
import { unmountAll } from "#linux/unmount.ts";
import type { SnapshotDriver, SnapshotLocation } from "../../services/snapshots/drivers/driver.ts";
import { erofsDriver } from "../../services/snapshots/drivers/erofs/driver.ts";
import { overlayDriver } from "../../services/snapshots/drivers/overlayfs/driver.ts";
import { quotaLabel } from "../../services/snapshots/drivers/quota.ts";
import { TreeThreads } from "../../services/snapshots/threads/tree-threads.ts";
import { makeMounts } from "../conformance/snapshot-driver.suite.ts";
import { lacksFileSystem } from "../kit/file-systems.ts";
import { holdMounts } from "../kit/held-mounts.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";

const location = (id: bigint, parentIds: bigint[], labels = {}): SnapshotLocation => ({
  id,
  parentIds,
  kind: "active",
  labels,
});
const limited = { [quotaLabel]: "16MiB" };

/** Mounts what a driver says, for as long as a function runs. */
type Within = <T>(of: SnapshotLocation, use: (root: string) => Promise<T>) => Promise<T>;

interface Stand {
  readonly path: string;
  readonly driver: SnapshotDriver;
  readonly within: Within;
}

async function makeStand(
  resources: AsyncDisposableStack,
  definition: typeof overlayDriver,
  makeRoot = async (path: string): Promise<string> => `${path}/root`,
): Promise<Stand> {
  const { path } = resources.use(await makeTemporaryDirectory("quota"));
  const trees = resources.use(new TreeThreads());
  const settings = new PluginSettings(defaultTable(definition.manifest), [], []);
  const driver = await definition.open({ root: await makeRoot(path), settings, trees });
  const mounts = (await makeMounts(`${path}/mounts`))([driver.root]);
  await mkdir(`${path}/mnt`);
  const within: Within = async (of, use) =>
    await mounts.withActivated(await driver.mounts(of), async (system) => {
      try {
        await mountAll(system, `${path}/mnt`);
        return await use(`${path}/mnt`);
      } finally {
        await unmountAll(`${path}/mnt`);
      }
    });
  return { path, driver, within };
}

const isFull = (error: unknown): boolean => ["ENOSPC", "EDQUOT"].includes(systemErrorCode(error) ?? "");

for (const definition of [overlayDriver, erofsDriver]) {
  const { id } = definition.manifest;
  test(`${id}: a snapshot with a limit is full at that limit, and its files are in its children once it is committed`, {
    skip: (await lacksFileSystem("ext4")) || (await lacksFileSystem(id === "erofs" ? "erofs" : "ext4")),
  }, async () => {
    await using resources = new AsyncDisposableStack();
    const { driver, within } = await makeStand(resources, definition);
    const base = location(1n, []);
    await driver.create(base);
    await within(base, (root) => writeFile(`${root}/below`, "below"));
    await driver.seal?.(base);
    const child = location(2n, [1n], limited);
    await driver.create(child);
    await using held = new AsyncDisposableStack();
    await within(child, async (root) => {
      held.use(await holdMounts());
      await assert.rejects(writeFile(`${root}/large`, Buffer.alloc(17 << 20, 1)), isFull);
      await rm(`${root}/large`);
      await writeFile(`${root}/small`, "small");
      await rm(`${root}/below`);
    });
    await within(child, async (root) => assert.equal(await readFile(`${root}/small`, "utf8"), "small", "it stays"));
    await held.disposeAsync();
    assert.ok((await driver.measure(child)).sizeBytes < 32n << 20n);
    await driver.seal?.(child);
    const grandchild = location(3n, [2n, 1n]);
    await driver.create(grandchild);
    await within(grandchild, async (root) => {
      assert.equal(await readFile(`${root}/small`, "utf8"), "small");
      assert.ok(!existsSync(`${root}/below`));
      await writeFile(`${root}/large`, Buffer.alloc(17 << 20, 1));
    });
    assert.ok(!existsSync(`${driver.root}/snapshots/2/rwlayer.img`), "what it was written in is freed");
    await driver.remove([3n, 2n, 1n]);
    assert.deepEqual(await driver.listIds(), []);
  });
}

test("a limit that is none is refused, and nothing is made", { skip: await lacksFileSystem("ext4") }, async () => {
  await using resources = new AsyncDisposableStack();
  const { driver } = await makeStand(resources, overlayDriver);
  for (const [text, message] of [
    ["much", `${quotaLabel}: invalid size: 'much': invalid argument`],
    ["1k", `${quotaLabel}: 1k is less than 1MiB: invalid argument`],
  ] as const) {
    await assert.rejects(driver.create(location(1n, [], { [quotaLabel]: text })), (error) => {
      assert.equal((error as Error).message, message);
      return isFailure(error, ErrorKind.InvalidArgument);
    });
  }
  assert.deepEqual(await driver.listIds(), []);
});

test("where the file system only counts, the limit is one of an image", {
  skip: !existsSync("/proc/sys/fs/quota") || (await lacksProjectQuota()),
}, async () => {
  await using resources = new AsyncDisposableStack();
  const { driver } = await makeStand(resources, overlayDriver, (path) => makeQuotaRoot(path, []));
  const child = location(1n, [], limited);
  await driver.create(child);
  assert.equal((await driver.mounts(child))[0]?.type, "mkfs/ext4");
});

test("where the file system has quotas of projects, the limit is one of them", {
  skip: !existsSync("/proc/sys/fs/quota") || (await lacksProjectQuota()),
}, async () => {
  await using resources = new AsyncDisposableStack();
  const { driver, within } = await makeStand(resources, overlayDriver, makeQuotaRoot);
  const child = location(1n, [], limited);
  await driver.create(child);
  assert.equal((await driver.mounts(child)).length, 1);
  await within(child, async (root) => {
    // Who has CAP_SYS_RESOURCE, as a container has not, may go beyond the limits of ext4.
    const dropped = ["--bounding-set", "-sys_resource", "--inh-caps", "-sys_resource"];
    const { exitCode, stderr } = await execa(
      "setpriv",
      [...dropped, "dd", "if=/dev/zero", `of=${root}/large`, "bs=1M", "count=17"],
      { reject: false },
    );
    assert.equal(exitCode, 1);
    assert.match(stderr, /No space left on device|Disk quota exceeded/);
    await rm(`${root}/large`);
    await writeFile(`${root}/small`, "small");
  });
});

async function makeQuotaRoot(path: string, options: readonly string[] = ["prjquota"]): Promise<string> {
  await execa("truncate", ["--size=128M", `${path}/disk`]);
  await execa("mkfs.ext4", ["-q", "-O", "project,quota", `${path}/disk`]);
  await mkdir(`${path}/disk.mnt`);
  await mountAll([{ type: "ext4", source: `${path}/disk`, options: ["loop", ...options] }], `${path}/disk.mnt`);
  return `${path}/disk.mnt/root`;
}

/** Why quotas of projects cannot be tried here, or false. */
async function lacksProjectQuota(): Promise<string | false> {
  await using directory = await makeTemporaryDirectory("quota");
  try {
    await makeQuotaRoot(directory.path);
    return hasProjectQuota(`${directory.path}/disk.mnt`) ? false : "the kernel has no quotas of projects";
  } catch {
    return "the kernel has no quotas of projects";
  }
}
