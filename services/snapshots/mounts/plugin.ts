import type { PluginManifest } from "#fleet/manifest.ts";

const handlerType = "io.containerd.mount-handler.v1";
const managerType = "io.containerd.mount-manager.v1";

/** Mounts EROFS images. @source containerd v2.3.4 plugins/mount/erofs/plugin_linux.go */
export const erofsHandlerPlugin = {
  type: handlerType,
  id: "erofs",
  platformDependent: true,
  settings: {},
} as const satisfies PluginManifest;

/** Carries out mounts for clients; it keeps containerd's name. @source containerd v2.3.4 plugins/mount/manager.go */
export const mountManagerPlugin = {
  type: managerType,
  id: "bolt",
  requires: ["io.containerd.metadata.v1", handlerType],
} as const satisfies PluginManifest;

/** Mounts as clients call them. @source containerd v2.3.4 plugins/services/mounts/service.go */
export const mountsGrpcPlugin = {
  type: "io.containerd.grpc.v1",
  id: "mounts",
  requires: [managerType],
} as const satisfies PluginManifest;
