import type { PluginManifest } from "#fleet/manifest.ts";

/** The blobs and ingests on disk. */
export const contentPlugin = { type: "io.containerd.content.v1", id: "content" } as const satisfies PluginManifest;

/** Known to clients that look for containerd's plugin; it has nothing of its own here. */
const contentServicePlugin = {
  type: "io.containerd.service.v1",
  id: "content-service",
  requires: ["io.containerd.metadata.v1"],
} as const satisfies PluginManifest;

/** Content as clients call it. */
export const contentGrpcPlugin = {
  type: "io.containerd.grpc.v1",
  id: "content",
  requires: ["io.containerd.service.v1"],
} as const satisfies PluginManifest;

/** The plugins of this process, in the order of their initialisation. */
export const contentPlugins: readonly PluginManifest[] = [contentPlugin, contentServicePlugin, contentGrpcPlugin];
