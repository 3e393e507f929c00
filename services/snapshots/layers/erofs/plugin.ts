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
      about:
        "Whether layers get the hashes by which dm-verity checks every block of them when they are mounted; takes the kernel's dm_verity.",
    },
  },
} as const satisfies PluginManifest;
