import { existsSync } from "node:fs";
import type { FleetConfig } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import { pluginUri } from "#config/manifest.ts";
import { skipPlugin } from "#fleet/plugin.ts";
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
  parts: Omit<ErofsDifferParts, "options" | "keepsArchives" | "readsArchives">,
): Promise<ErofsDiffer> {
  const settings = pluginTable(config, pluginUri(erofsDifferPlugin));
  const archives = await readsArchives();
  const keepsArchives = settings.boolean("enable_tar_index");
  if (keepsArchives && !archives) {
    throw skipPlugin("mkfs.erofs does not support tar mode (--tar option), disabling erofs differ");
  }
  if (settings.boolean("enable_dmverity")) {
    throw skipPlugin(
      existsSync("/sys/module/dm_verity")
        ? "dm-verity of layers is not built"
        : "dm-verity is not supported on this system (dm_verity module not loaded)",
    );
  }
  return new ErofsDiffer({
    ...parts,
    options: settings.strings("mkfs_options"),
    keepsArchives,
    readsArchives: archives,
  });
}
