import { aufsDriver } from "./aufs/driver.ts";
import { blockfileDriver } from "./blockfile/driver.ts";
import { btrfsDriver } from "./btrfs/driver.ts";
import { devmapperDriver } from "./devmapper/driver.ts";
import type { SnapshotDriverDefinition } from "./driver.ts";
import { erofsDriver } from "./erofs/driver.ts";
import { nativeDriver } from "./native/driver.ts";
import { overlayDriver } from "./overlayfs/driver.ts";
import { zfsDriver } from "./zfs/driver.ts";

/** Every driver that is built in, in the order in which their plugins are initialised. */
export const snapshotDrivers: readonly SnapshotDriverDefinition[] = [
  aufsDriver,
  blockfileDriver,
  btrfsDriver,
  devmapperDriver,
  erofsDriver,
  nativeDriver,
  overlayDriver,
  zfsDriver,
];
