import type { PluginManifest } from "#fleet/manifest.ts";

/** @source containerd v2.3.4 plugins/snapshots/devmapper/config.go `Config` */
export const devmapperPlugin = {
  type: "io.containerd.snapshotter.v1",
  id: "devmapper",
  platformDependent: true,
  settings: {
    root_path: {
      type: "string",
      default: "",
      about: "Directory for everything of the snapshotter; one below the daemon's root where it is empty.",
    },
    pool_name: {
      type: "string",
      default: "",
      about: "Thin pool that snapshots are volumes of; without it the snapshotter is skipped.",
    },
    base_image_size: { type: "string", default: "", about: "Size of each volume, such as 10GB; required." },
    async_remove: {
      type: "boolean",
      default: false,
      about: "Accepted and without effect: volumes always go with the collection that releases them, as with true.",
    },
    discard_blocks: { type: "boolean", default: false, about: "Whether the blocks of removed volumes are given back." },
    fs_type: {
      type: "string",
      default: "",
      about: "Type of the file systems: ext4, ext2 or xfs; ext4 where it is empty.",
    },
    fs_options: { type: "string", default: "", about: "Extended options for mkfs.ext4 and mkfs.ext2." },
  },
} as const satisfies PluginManifest;
