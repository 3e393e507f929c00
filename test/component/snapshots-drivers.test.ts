import { pluginDefaults } from "#config/defaults.ts";
import { snapshotDrivers } from "../../services/snapshots/drivers/index.ts";
import { snapshotDriverSuite } from "../conformance/snapshot-driver.suite.ts";

for (const driver of snapshotDrivers) {
  snapshotDriverSuite(driver, pluginDefaults[`io.containerd.snapshotter.v1.${driver.id}`] ?? {});
}
