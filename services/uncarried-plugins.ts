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
  {
    type: "io.containerd.internal.v1",
    id: "tracing",
    settings: {
      service_name: { type: "string", about: "Name of the daemon in traces; the environment is the newer way." },
      sampling_ratio: { type: "number", about: "Share of calls that are traced; the environment is the newer way." },
    },
  },
  {
    type: "io.containerd.tracing.processor.v1",
    id: "otlp",
    settings: {
      endpoint: { type: "string", about: "Where traces go; the environment is the newer way." },
      protocol: { type: "string", about: "How they go there; the environment is the newer way." },
      insecure: { type: "boolean", about: "Whether they go there unencrypted; the environment is the newer way." },
    },
  },
];
