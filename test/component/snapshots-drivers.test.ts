import { mkdir, readFile } from "node:fs/promises";
import { execa } from "execa";
import { defaultTable } from "#config/plugin-tables.ts";
import { mountAll } from "#linux/mount.ts";
import { aufsDriver } from "../../services/snapshots/drivers/aufs/driver.ts";
import { blockfileDriver } from "../../services/snapshots/drivers/blockfile/driver.ts";
import { btrfsDriver } from "../../services/snapshots/drivers/btrfs/driver.ts";
import { devmapperDriver } from "../../services/snapshots/drivers/devmapper/driver.ts";
import { erofsDriver } from "../../services/snapshots/drivers/erofs/driver.ts";
import { nativeDriver } from "../../services/snapshots/drivers/native/driver.ts";
import { overlayDriver } from "../../services/snapshots/drivers/overlayfs/driver.ts";
import { zfsDriver } from "../../services/snapshots/drivers/zfs/driver.ts";
import { snapshotDriverSuite } from "../conformance/snapshot-driver.suite.ts";
import { lacksFileSystem } from "../kit/file-systems.ts";
import { lacksThinPools, makeThinPool } from "../kit/thin-pool.ts";
import { lacksZfs, makeZfsPool } from "../kit/zfs-pool.ts";

for (const driver of [nativeDriver, overlayDriver]) {
  snapshotDriverSuite(driver, defaultTable(driver.manifest));
}

snapshotDriverSuite(btrfsDriver, defaultTable(btrfsDriver.manifest), {
  skip: await lacksFileSystem("btrfs"),
  prepare: async (directory) => {
    await execa("truncate", ["--size=256M", `${directory}/disk`]);
    await execa("mkfs.btrfs", ["--quiet", `${directory}/disk`]);
    await mkdir(`${directory}/btrfs`);
    await mountAll([{ type: "btrfs", source: `${directory}/disk`, options: ["loop"] }], `${directory}/btrfs`);
    return { root_path: `${directory}/btrfs/root` };
  },
});

for (const type of ["ext4", "xfs"] as const) {
  snapshotDriverSuite(blockfileDriver, defaultTable(blockfileDriver.manifest), {
    title: `blockfile of ${type}`,
    skip: await lacksFileSystem(type),
    measuresImages: true,
    prepare: async (directory) => {
      const scratch = `${directory}/empty`;
      await execa("truncate", [type === "xfs" ? "--size=320M" : "--size=48M", scratch]);
      await execa(`mkfs.${type}`, ["-q", scratch]);
      if (type === "ext4") {
        await execa("debugfs", ["-w", "-R", "rmdir lost+found", scratch]);
      }
      return { scratch_file: scratch, fs_type: type };
    },
  });
}

for (const type of ["ext4", "xfs"] as const) {
  snapshotDriverSuite(
    devmapperDriver,
    { ...defaultTable(devmapperDriver.manifest), fs_type: type },
    {
      title: `devmapper of ${type}`,
      skip: (await lacksFileSystem(type)) || (await lacksThinPools()),
      measuresImages: true,
      countsInodes: false,
      prepare: async (directory, resources) => ({
        pool_name: await makeThinPool(directory, resources),
        base_image_size: type === "xfs" ? "320MiB" : "48MiB",
      }),
    },
  );
}

snapshotDriverSuite(zfsDriver, defaultTable(zfsDriver.manifest), {
  skip: await lacksZfs(),
  countsInodes: false,
  prepare: async (directory, resources) => ({ root_path: await makeZfsPool(directory, resources) }),
});

snapshotDriverSuite(aufsDriver, defaultTable(aufsDriver.manifest), {
  skip: !(await readFile("/proc/filesystems", "utf8")).includes("\taufs\n") && "the kernel has no aufs",
});

for (const [title, settings] of [
  ["erofs", {}],
  ["erofs with file systems of a size", { default_size: "48MiB" }],
  ["erofs with layers that cannot be changed", { set_immutable: true }],
] as const) {
  snapshotDriverSuite(
    erofsDriver,
    { ...defaultTable(erofsDriver.manifest), ...settings },
    {
      title,
      skip: await lacksFileSystem("erofs"),
      measuresImages: title.includes("size"),
      fillsHoles: true,
    },
  );
}
