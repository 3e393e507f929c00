import type { PluginManifest } from "#fleet/manifest.ts";

/** @source containerd v2.3.4 plugins/snapshots/btrfs/plugin/plugin.go `Config` */
export const btrfsPlugin = {
  type: "io.containerd.snapshotter.v1",
  id: "btrfs",
  platformDependent: true,
  settings: {
    root_path: {
      type: "string",
      default: "",
      about: "Directory on btrfs for everything of the snapshotter; one below the daemon's root where it is empty.",
    },
  },
} as const satisfies PluginManifest;
