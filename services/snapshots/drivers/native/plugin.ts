import type { PluginManifest } from "#fleet/manifest.ts";

/** @source containerd v2.3.4 plugins/snapshots/native/plugin/plugin.go `Config` */
export const nativePlugin = {
  type: "io.containerd.snapshotter.v1",
  id: "native",
  platformDependent: true,
  settings: {
    root_path: {
      type: "string",
      default: "",
      about: "Directory for everything of the snapshotter; one below the daemon's root where it is empty.",
    },
  },
} as const satisfies PluginManifest;
