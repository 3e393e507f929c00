import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import test from "node:test";
import { ErrorKind, FlotillaError, isFailure } from "#base/errors.ts";
import { defaultTable } from "#config/plugin-tables.ts";
import { PluginSettings } from "#config/settings.ts";
import { aufsDriver, openAufs } from "../../services/snapshots/drivers/aufs/driver.ts";
import { devmapperDriver, openDevmapper } from "../../services/snapshots/drivers/devmapper/driver.ts";
import type {
  SnapshotDriver,
  SnapshotDriverDefinition,
  SnapshotLocation,
} from "../../services/snapshots/drivers/driver.ts";
import type { Programs } from "../../services/snapshots/drivers/programs.ts";
import { openZfs, zfsDriver } from "../../services/snapshots/drivers/zfs/driver.ts";
import { TreeThreads } from "../../services/snapshots/threads/tree-threads.ts";
import { makeTemporaryDirectory } from "../kit/temporary-directory.ts";

/** Drivers for kernels that this machine has not: what they ask of the programs is recorded, and the programs answer as theirs would. */

const active = (id: bigint, ...parentIds: bigint[]): SnapshotLocation => ({
  id,
  parentIds,
  kind: "active",
  labels: {},
});

interface Stand {
  readonly path: string;
  readonly open: (settings?: Readonly<Record<string, unknown>>) => Promise<SnapshotDriver>;
}

async function makeStand(
  resources: AsyncDisposableStack,
  definition: SnapshotDriverDefinition,
  open: SnapshotDriverDefinition["open"],
): Promise<Stand> {
  const { path } = resources.use(await makeTemporaryDirectory("prog"));
  const trees = resources.use(new TreeThreads());
  return {
    path,
    open: (settings = {}) =>
      open({
        root: `${path}/root`,
        settings: new PluginSettings({ ...defaultTable(definition.manifest), ...settings }, [], []),
        trees,
      }),
  };
}

/** A thin pool in memory that answers as dmsetup does. */
class FakePool {
  readonly calls: string[] = [];
  readonly volumes = new Set<string>();
  readonly devices = new Map<string, string>();
  /** Fails the calls that match, once each. */
  readonly failures: [pattern: RegExp, message: string][] = [];

  readonly programs: Programs = async (program, ...args) => {
    const call = [program, ...args].join(" ");
    this.calls.push(call);
    const failing = this.failures.findIndex(([pattern]) => pattern.test(call));
    if (failing >= 0) {
      const [[, message] = [/./, ""]] = this.failures.splice(failing, 1);
      throw new FlotillaError(ErrorKind.Unknown, `${call}\nerror: ${message}\n: exit status 1`);
    }
    return this.#answer(call);
  };

  #answer(call: string): string {
    const refuse = (message: string): never => {
      throw new FlotillaError(ErrorKind.Unknown, `${call}\nerror: ${message}\n: exit status 1`);
    };
    const [, info] = /^dmsetup info (?:\/dev\/mapper\/)?(\S+)$/.exec(call) ?? [];
    if (info !== undefined) {
      return info === "pool" || this.devices.has(info) ? "Name" : refuse("Device does not exist.");
    }
    const [, name, number] = /^dmsetup create (\S+) --table 0 \d+ thin \/dev\/mapper\/pool (\d+)$/.exec(call) ?? [];
    if (name !== undefined && number !== undefined) {
      assert.ok(this.volumes.has(number), call);
      this.devices.set(name, number);
    }
    const [, removed] = /^dmsetup remove (?:--deferred )?\/dev\/mapper\/(\S+)$/.exec(call) ?? [];
    if (removed !== undefined) {
      assert.ok(this.devices.delete(removed), call);
    }
    const [, message, id = "", origin] = /^dmsetup message pool 0 (\w+) (\d+)(?: (\d+))?$/.exec(call) ?? [];
    if (message === "delete") {
      return this.volumes.delete(id) ? "" : refuse("device-mapper: message ioctl on pool failed: No data available");
    }
    if (message !== undefined) {
      assert.ok(!this.volumes.has(id), call);
      assert.ok(origin === undefined || this.volumes.has(origin), call);
      this.volumes.add(id);
    }
    return call.startsWith("dmsetup status") ? `0 2097152 thin ${this.calls.length * 8} 100` : "";
  }
}

const configured = { pool_name: "pool", base_image_size: "1GB" };

test("devmapper: without a pool it is skipped, and settings that make no sense are refused", async () => {
  await using resources = new AsyncDisposableStack();
  const { open } = await makeStand(resources, devmapperDriver, (options) => devmapperDriver.open(options));
  const cases: [object, string | RegExp][] = [
    [{}, "devmapper not configured: skip plugin"],
    [{ pool_name: "p" }, "failed to parse base image size: '': invalid size: ''"],
    [{ ...configured, fs_type: "btrfs" }, 'unsupported Filesystem Type: "btrfs"'],
    [configured, /dmsetup/],
  ];
  for (const [settings, message] of cases) {
    await assert.rejects(open({ ...settings }), message instanceof RegExp ? message : { message });
  }
});

test("devmapper: volumes are made, copied, flushed, taken away and deleted", async () => {
  await using resources = new AsyncDisposableStack();
  const pool = new FakePool();
  const cleared: string[] = [];
  const clear = async ({ source }: { source: string }): Promise<void> => void cleared.push(source);
  const { open } = await makeStand(resources, devmapperDriver, openDevmapper({ programs: pool.programs, clear }));
  const driver = await open({ ...configured, fs_type: "xfs", discard_blocks: true });
  pool.calls.length = 0;
  await driver.create(active(1n));
  assert.deepEqual(
    pool.calls.filter((call) => !call.includes("info")),
    [
      "dmsetup message pool 0 create_thin 1",
      "dmsetup create pool-snap-1 --table 0 2097152 thin /dev/mapper/pool 1",
      "mkfs.xfs /dev/mapper/pool-snap-1",
    ],
  );
  assert.deepEqual(cleared, ["/dev/mapper/pool-snap-1"]);
  await driver.seal?.(active(1n));
  pool.calls.length = 0;
  await driver.create(active(2n, 1n));
  assert.deepEqual(
    pool.calls.filter((call) => !call.includes("info")),
    [
      "dmsetup suspend pool-snap-1",
      "dmsetup message pool 0 create_snap 2 1",
      "dmsetup resume pool-snap-1",
      "dmsetup create pool-snap-2 --table 0 2097152 thin /dev/mapper/pool 2",
      "dmsetup remove --deferred /dev/mapper/pool-snap-1",
    ],
  );
  assert.deepEqual(await driver.mounts(active(2n, 1n)), [
    { type: "xfs", source: "/dev/mapper/pool-snap-2", options: ["nouuid"] },
  ]);
  pool.devices.clear();
  assert.deepEqual((await driver.mounts({ ...active(2n, 1n), kind: "view" }))[0]?.options, ["nouuid", "ro"]);
  assert.ok(pool.devices.has("pool-snap-2"), "after a reboot devices are made again");
  assert.ok((await driver.measure(active(2n, 1n))).sizeBytes > 0n);
  pool.calls.length = 0;
  pool.failures.push([/remove/, "Device or resource busy"]);
  await driver.remove([2n, 1n, 99n]);
  assert.ok(pool.calls.includes("blkdiscard /dev/mapper/pool-snap-2"));
  assert.deepEqual([pool.volumes.size, pool.devices.size, await driver.listIds()], [0, 0, []]);
});

test("devmapper: what could not be made leaves neither a volume nor a directory, and a crash leaves none for long", async () => {
  for (const failing of [/create_thin/, /dmsetup create/, /mkfs/]) {
    await using resources = new AsyncDisposableStack();
    const pool = new FakePool();
    const parts = { programs: pool.programs, clear: async () => undefined };
    const { open, path } = await makeStand(resources, devmapperDriver, openDevmapper(parts));
    const driver = await open(configured);
    pool.failures.push([failing, "Input/output error"]);
    await assert.rejects(driver.create(active(1n)), /Input\/output error/);
    assert.deepEqual([pool.volumes.size, pool.devices.size], [0, 0], String(failing));
    assert.deepEqual(readdirSync(`${path}/root/snapshots`), []);

    await mkdir(`${path}/root/snapshots/new-7-0123456789ab`);
    await writeFile(`${path}/root/snapshots/new-7-0123456789ab/volume`, "7 ext4");
    pool.volumes.add("7");
    await open(configured);
    assert.deepEqual([pool.volumes.size, readdirSync(`${path}/root/snapshots`)], [0, []]);
  }
});

test("zfs: a root elsewhere is skipped, and datasets are made, cloned, kept and destroyed", async () => {
  await using resources = new AsyncDisposableStack();
  const here = await makeStand(resources, zfsDriver, (options) => zfsDriver.open(options));
  await assert.rejects(here.open(), (error) => {
    assert.equal(
      (error as Error).message,
      `path ${here.path}/root must be a zfs filesystem to be used with the zfs snapshotter: skip plugin`,
    );
    return true;
  });
  const calls: string[] = [];
  const datasets = new Set<string>();
  const programs: Programs = async (program, ...args) => {
    calls.push([program, ...args].join(" "));
    const name = args.at(-1) ?? "";
    if (args[0] === "destroy" && !datasets.delete(name)) {
      throw new FlotillaError(ErrorKind.Unknown, `cannot open '${name}': dataset does not exist`);
    }
    if (["create", "clone", "snapshot"].includes(args[0] ?? "")) {
      datasets.add(name);
    }
    return args[0] === "get" ? "4096" : "";
  };
  const findMount = async () => ({ type: "zfs", source: "tank/snapshots" });
  const { open, path } = await makeStand(resources, zfsDriver, openZfs({ programs, findMount }));
  const driver = await open();
  await driver.create(active(1n));
  await driver.seal?.(active(1n));
  await driver.create({ ...active(2n, 1n), kind: "view" });
  await driver.create(active(3n, 1n));
  assert.deepEqual(calls, [
    "zfs create -o mountpoint=legacy tank/snapshots/1",
    "zfs destroy tank/snapshots/1@snapshot",
    "zfs snapshot tank/snapshots/1@snapshot",
    "zfs clone -o mountpoint=legacy -o readonly=on tank/snapshots/1@snapshot tank/snapshots/2",
    "zfs clone -o mountpoint=legacy tank/snapshots/1@snapshot tank/snapshots/3",
  ]);
  assert.deepEqual(await driver.mounts(active(3n, 1n)), [{ type: "zfs", source: "tank/snapshots/3", options: [] }]);
  assert.deepEqual((await driver.mounts({ ...active(2n, 1n), kind: "view" }))[0]?.options, ["ro"]);
  assert.deepEqual(await driver.measure(active(3n, 1n)), { sizeBytes: 4096n, inodes: 0n });
  await assert.rejects(driver.create(active(4n, 77n)), (error) => isFailure(error, ErrorKind.NotFound));
  await driver.remove([2n]);
  calls.length = 0;
  await driver.remove([1n, 3n]);
  await driver.remove([3n]);
  // A dataset with clones cannot be destroyed.
  assert.deepEqual(calls, ["zfs destroy -r tank/snapshots/3", "zfs destroy -r tank/snapshots/1"]);
  for (const id of [8, 10]) {
    await mkdir(`${path}/root/snapshots/rm-${id}-0123456789ab`);
    await writeFile(`${path}/root/snapshots/rm-${id}-0123456789ab/dataset`, String(id));
  }
  calls.length = 0;
  await open();
  assert.deepEqual(calls, ["zfs destroy -r tank/snapshots/10", "zfs destroy -r tank/snapshots/8"]);
  await mkdir(`${path}/root/snapshots/rm-9-0123456789ab`);
  await writeFile(`${path}/root/snapshots/rm-9-0123456789ab/dataset`, "9");
  datasets.add("tank/snapshots/9");
  await open();
  assert.ok(!datasets.has("tank/snapshots/9"), "what a crash left is destroyed");
});

test("aufs: a kernel without it is skipped, and branches are in the order of the layers", async () => {
  await using resources = new AsyncDisposableStack();
  const listFileSystems = async (): Promise<string> => "nodev\tsysfs\nnodev\taufs\n";
  const refusing: Programs = async () => {
    throw new FlotillaError(ErrorKind.Unknown, "no such program");
  };
  const without = await makeStand(resources, aufsDriver, openAufs({ programs: refusing, listFileSystems }));
  await assert.rejects(without.open(), {
    message: 'aufs is not supported (modprobe aufs failed: no such program ""): skip plugin',
  });
  const absent = { programs: async () => "", listFileSystems: async () => "nodev\tsysfs\n" };
  await assert.rejects((await makeStand(resources, aufsDriver, openAufs(absent))).open(), {
    message: "aufs is not supported: skip plugin",
  });
  const { open, path } = await makeStand(
    resources,
    aufsDriver,
    openAufs({ programs: async () => "", listFileSystems }),
  );
  const driver = await open();
  for (const location of [active(1n), active(2n, 1n), active(3n, 2n, 1n)]) {
    await driver.create(location);
  }
  const files = (id: number): string => `${path}/root/snapshots/${id}/fs`;
  const common = ["dio", "xino=/dev/shm/aufs.xino", "dirperm1"];
  assert.deepEqual(await driver.mounts(active(3n, 2n, 1n)), [
    { type: "aufs", source: "none", options: [`br:${files(3)}=rw:${files(2)}=ro+wh:${files(1)}=ro+wh`, ...common] },
  ]);
  assert.deepEqual(await driver.mounts({ ...active(4n, 2n, 1n), kind: "view" }), [
    { type: "aufs", source: "none", options: [`br:${files(2)}=ro+wh:${files(1)}=ro+wh`, ...common] },
  ]);
  assert.deepEqual(await driver.mounts({ ...active(4n, 1n), kind: "view" }), [
    { type: "bind", source: files(1), options: ["ro", "rbind"] },
  ]);
  assert.equal((await driver.measure(active(3n, 2n, 1n))).inodes, 1n);
});
