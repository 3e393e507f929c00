import type { PluginManifest } from "#fleet/manifest.ts";

/** The blobs and ingests on disk. */
export const contentPlugin = { type: "io.containerd.content.v1", id: "content" } as const satisfies PluginManifest;

/** Copies of blobs that are in a content store of somebody else. It is our own. */
export const copiesPlugin = {
  type: "io.flotilla.content.v1",
  id: "copies",
  reloads: ["bytes_max"],
  settings: {
    bytes_max: {
      type: "integer",
      default: 10 * 1024 ** 3,
      about:
        "Bytes that copies of a proxy plugin's blobs may take beside those in use, beyond which the ones that have not been used for longest go; 0 for no bound.",
    },
  },
} as const satisfies PluginManifest;

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
export const contentPlugins: readonly PluginManifest[] = [
  contentPlugin,
  copiesPlugin,
  contentServicePlugin,
  contentGrpcPlugin,
];
