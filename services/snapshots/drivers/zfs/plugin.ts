import type { PluginManifest } from "#fleet/manifest.ts";

/** @source containerd/zfs v2 plugin/plugin.go `Config` */
export const zfsPlugin = {
  type: "io.containerd.snapshotter.v1",
  id: "zfs",
  platformDependent: true,
  settings: {
    root_path: {
      type: "string",
      default: "",
      about: "Directory on ZFS for everything of the snapshotter; one below the daemon's root where it is empty.",
    },
  },
} as const satisfies PluginManifest;
