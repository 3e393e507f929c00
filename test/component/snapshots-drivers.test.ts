import { defaultTable } from "#config/plugin-tables.ts";
import { snapshotDrivers } from "../../services/snapshots/drivers/index.ts";
import { snapshotDriverSuite } from "../conformance/snapshot-driver.suite.ts";

for (const driver of snapshotDrivers) {
  snapshotDriverSuite(driver, defaultTable(driver.manifest));
}
