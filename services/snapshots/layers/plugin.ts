import type { PluginManifest } from "#fleet/manifest.ts";

/** Reads and writes layers by walking directories. @source containerd v2.3.4 plugins/diff/walking/plugin/plugin.go */
export const walkingPlugin = {
  type: "io.containerd.differ.v1",
  id: "walking",
  requires: ["io.containerd.metadata.v1", "io.containerd.mount-manager.v1"],
  platformDependent: true,
} as const satisfies PluginManifest;

/** Chooses the differ that answers. @source containerd v2.3.4 plugins/services/diff/local.go, service_unix.go */
export const diffServicePlugin = {
  type: "io.containerd.service.v1",
  id: "diff-service",
  requires: ["io.containerd.differ.v1"],
  reloads: ["default", "sync_fs"],
  settings: {
    default: {
      type: "strings",
      default: ["walking"],
      about:
        "Differs that are asked, in this order, until one can do what is wanted: walking, and proxy plugins of type diff.",
    },
    sync_fs: {
      type: "boolean",
      default: false,
      about: "Whether an unpacked layer is flushed to disk before its snapshot counts as done.",
    },
  },
} as const satisfies PluginManifest;

/** What layers may be. It is our own. */
export const layerLimitsPlugin = {
  type: "io.flotilla.layers.v1",
  id: "limits",
  reloads: ["entries_max", "depth_max", "ratio_max"],
  settings: {
    entries_max: {
      type: "integer",
      default: 10_000_000,
      about: "Most files and directories in one layer; 0 for no limit.",
    },
    depth_max: {
      type: "integer",
      default: 2_000,
      about: "Most directories inside each other in one layer; 0 for no limit.",
    },
    ratio_max: {
      type: "integer",
      default: 20_000,
      about: "How many times as large as its blob a layer of more than 1 GiB may be; 0 for no limit.",
    },
  },
} as const satisfies PluginManifest;

/** Diff as clients call it. */
export const diffGrpcPlugin = {
  type: "io.containerd.grpc.v1",
  id: "diff",
  requires: ["io.containerd.service.v1"],
} as const satisfies PluginManifest;
