import { wrapFailure } from "#base/errors.ts";
import type { FleetConfig } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import { pluginUri } from "#config/manifest.ts";
import { skipPlugin } from "#fleet/plugin.ts";
import { requireDeviceVerity } from "../../verity/kernel-support.ts";
import { ErofsDiffer, type ErofsDifferParts } from "./erofs-differ.ts";
import { readsArchives } from "./mkfs.ts";
import { erofsDifferPlugin } from "./plugin.ts";

/**
 * Makes the differ as the configuration wants it.
 *
 * @throws A skip in containerd's words without mkfs.erofs, or when what is wanted cannot be had.
 * @source containerd v2.3.4 plugins/diff/erofs/plugin/plugin.go
 */
export async function openErofsDiffer(
  config: FleetConfig,
  parts: Omit<ErofsDifferParts, "options" | "keepsArchives" | "readsArchives" | "protectsLayers">,
): Promise<ErofsDiffer> {
  const settings = pluginTable(config, pluginUri(erofsDifferPlugin));
  const archives = await readsArchives();
  const keepsArchives = settings.boolean("enable_tar_index");
  const protectsLayers = settings.boolean("enable_dmverity");
  if ((keepsArchives || protectsLayers) && !archives) {
    throw skipPlugin("mkfs.erofs does not support tar mode (--tar option), disabling erofs differ");
  }
  if (protectsLayers) {
    try {
      requireDeviceVerity();
    } catch (error) {
      throw wrapFailure(error, "dm-verity support check failed");
    }
  }
  return new ErofsDiffer({
    ...parts,
    options: settings.strings("mkfs_options"),
    keepsArchives,
    readsArchives: archives,
    protectsLayers,
  });
}
