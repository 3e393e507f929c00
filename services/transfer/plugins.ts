import type { PluginManifest } from "#fleet/manifest.ts";

/** The streams that clients hold open. */
const streamingPlugin = {
  type: "io.containerd.streaming.v1",
  id: "manager",
  requires: ["io.containerd.metadata.v1"],
} as const satisfies PluginManifest;

/** Streaming as clients call it. */
export const streamingGrpcPlugin = {
  type: "io.containerd.grpc.v1",
  id: "streaming",
  requires: ["io.containerd.streaming.v1"],
} as const satisfies PluginManifest;

/** Has images verified by programs before they are pulled. @source containerd v2.3.4 plugins/imageverifier/plugin.go */
export const verifierPlugin = {
  type: "io.containerd.image-verifier.v1",
  id: "bindir",
  reloads: ["bin_dir", "max_verifiers", "per_verifier_timeout"],
  settings: {
    bin_dir: {
      type: "string",
      default: "/opt/containerd/image-verifier/bin",
      about: "Directory of programs that judge images.",
    },
    max_verifiers: { type: "integer", default: 10, about: "Programs that are asked; below 0 for all." },
    per_verifier_timeout: { type: "duration", default: "10s", about: "How long each may take." },
  },
} as const satisfies PluginManifest;

/** Makes the transfers. @source containerd v2.3.4 plugins/transfer/plugin.go */
export const localTransferPlugin = {
  type: "io.containerd.transfer.v1",
  id: "local",
  requires: [
    "io.containerd.lease.v1",
    "io.containerd.metadata.v1",
    "io.containerd.differ.v1",
    "io.containerd.image-verifier.v1",
  ],
  reloads: [
    "max_concurrent_downloads",
    "concurrent_layer_fetch_buffer",
    "max_concurrent_uploaded_layers",
    "check_platform_supported",
    "unpack_config",
    "config_path",
    "max_concurrent_unpacks",
  ],
  settings: {
    max_concurrent_downloads: {
      type: "integer",
      default: 3,
      about: "Blobs fetched from one registry at a time; 0 for no limit.",
    },
    concurrent_layer_fetch_buffer: {
      type: "integer",
      default: 0,
      about: "Size of the pieces, in bytes, in which a layer is fetched side by side; below 512 for no pieces.",
    },
    max_concurrent_uploaded_layers: {
      type: "integer",
      default: 3,
      about: "Blobs of one image sent at a time; 0 for no limit.",
    },
    check_platform_supported: {
      type: "boolean",
      default: false,
      about:
        "Whether images must be for the platform in unpack_config, and not just for its operating system, to be unpacked.",
    },
    unpack_config: {
      type: "tables",
      settings: {
        platform: { type: "string", default: "", about: "Platform of the images." },
        snapshotter: { type: "string", default: "", about: "Snapshotter that they are unpacked into." },
        differ: { type: "string", default: "", about: "Differ that unpacks them." },
        config_type: { type: "string", default: "", about: "Media type of their configuration." },
        layer_types: { type: "strings", default: [], about: "Media types of their layers." },
        optional: { type: "boolean", default: false, about: "Whether a missing snapshotter or differ is no error." },
      },
      about: "Where images are unpacked to; the first that fits an image counts.",
    },
    config_path: {
      type: "string",
      default: "",
      about: "Directories of hosts.toml files, by registry, parted by colons; a client may name another.",
    },
    max_concurrent_unpacks: {
      type: "integer",
      default: 1,
      about: "Layers of one image unpacked at a time; 1 for what suits the machine.",
    },
  },
} as const satisfies PluginManifest;

/** Transfer as clients call it. */
export const transferGrpcPlugin = {
  type: "io.containerd.grpc.v1",
  id: "transfer",
  requires: ["io.containerd.transfer.v1", "io.containerd.streaming.v1"],
} as const satisfies PluginManifest;

/** The plugins of this process, in the order of their initialisation. */
export const transferPlugins: readonly PluginManifest[] = [
  streamingPlugin,
  streamingGrpcPlugin,
  verifierPlugin,
  localTransferPlugin,
  transferGrpcPlugin,
];
