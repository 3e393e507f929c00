import type { PluginManifest } from "#fleet/manifest.ts";

/** Keeps layers as EROFS images. @source containerd v2.3.4 plugins/diff/erofs/plugin/plugin.go `Config` */
export const erofsDifferPlugin = {
  type: "io.containerd.differ.v1",
  id: "erofs",
  requires: ["io.containerd.metadata.v1"],
  platformDependent: true,
  settings: {
    mkfs_options: { type: "strings", default: [], about: "Further options for mkfs.erofs." },
    enable_tar_index: {
      type: "boolean",
      default: false,
      about: "Whether a layer stays the archive that it is, with an index before it, in place of becoming an image.",
    },
    enable_dmverity: {
      type: "boolean",
      default: false,
      about: "Whether layers are protected by dm-verity. Not built: the differ is skipped where it is on.",
    },
  },
} as const satisfies PluginManifest;
