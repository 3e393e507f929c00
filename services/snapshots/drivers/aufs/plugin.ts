import type { PluginManifest } from "#fleet/manifest.ts";

/** @source containerd/aufs v1 plugin/plugin.go `Config`; built into containerd until 1.7 */
export const aufsPlugin = {
  type: "io.containerd.snapshotter.v1",
  id: "aufs",
  platformDependent: true,
  settings: {
    root_path: {
      type: "string",
      default: "",
      about: "Directory for everything of the snapshotter; one below the daemon's root where it is empty.",
    },
  },
} as const satisfies PluginManifest;
