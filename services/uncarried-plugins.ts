import type { PluginManifest } from "#fleet/manifest.ts";

/**
 * Plugins of containerd that no process of the fleet carries. Their tables are read, migrated and printed, so that a configuration of containerd
 * is kept whole, and nothing else comes of them. A plugin that gets code leaves this list for a manifest beside it.
 *
 * @source containerd v2.3.4, the `Config` of each `plugin.Registration`
 */
export const uncarriedPlugins: readonly PluginManifest[] = [
  {
    type: "io.containerd.differ.v1",
    id: "erofs",
    settings: {
      mkfs_options: { type: "strings", default: [], about: "Options for mkfs.erofs." },
      enable_tar_index: { type: "boolean", default: false, about: "Whether layers stay tar files with an index." },
      enable_dmverity: { type: "boolean", default: false, about: "Whether layers are protected by dm-verity." },
    },
  },
];
