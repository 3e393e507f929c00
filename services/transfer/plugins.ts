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

/** The plugins of this process, in the order of their initialisation. */
export const transferPlugins: readonly PluginManifest[] = [streamingPlugin, streamingGrpcPlugin];
