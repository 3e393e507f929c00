import type { FleetConfig } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import { pluginUri } from "#config/manifest.ts";
import { supervisorPlugin } from "./plugins.ts";

/** By which the unit of the gateway says that there are units of the other processes. */
const unitsVariable = "FLOTILLA_UNITS";

/** Whether a service manager runs each process as a unit of its own, by the setting or by the gateway's own unit. */
export function hasUnits(config: FleetConfig): boolean {
  return process.env[unitsVariable] === "1" || pluginTable(config, pluginUri(supervisorPlugin)).boolean("units");
}
