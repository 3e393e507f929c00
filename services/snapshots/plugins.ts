import type { PluginManifest } from "#fleet/manifest.ts";
import { aufsPlugin } from "./drivers/aufs/plugin.ts";
import { blockfilePlugin } from "./drivers/blockfile/plugin.ts";
import { btrfsPlugin } from "./drivers/btrfs/plugin.ts";
import { devmapperPlugin } from "./drivers/devmapper/plugin.ts";
import { erofsPlugin } from "./drivers/erofs/plugin.ts";
import { nativePlugin } from "./drivers/native/plugin.ts";
import { overlayPlugin } from "./drivers/overlayfs/plugin.ts";
import { zfsPlugin } from "./drivers/zfs/plugin.ts";
import { erofsDifferPlugin } from "./layers/erofs/plugin.ts";
import { diffGrpcPlugin, diffServicePlugin, layerLimitsPlugin, walkingPlugin } from "./layers/plugin.ts";
import { erofsHandlerPlugin, mountManagerPlugin, mountsGrpcPlugin } from "./mounts/plugin.ts";

/** Known to clients that look for containerd's plugin; it has nothing of its own here. */
const snapshotsServicePlugin = {
  type: "io.containerd.service.v1",
  id: "snapshots-service",
  requires: ["io.containerd.metadata.v1"],
} as const satisfies PluginManifest;

/** Snapshots as clients call them. */
export const snapshotsGrpcPlugin = {
  type: "io.containerd.grpc.v1",
  id: "snapshots",
  requires: ["io.containerd.service.v1"],
} as const satisfies PluginManifest;

/** The plugins of this process, in the order of their initialisation. */
export const snapshotsPlugins: readonly PluginManifest[] = [
  aufsPlugin,
  blockfilePlugin,
  btrfsPlugin,
  devmapperPlugin,
  erofsPlugin,
  nativePlugin,
  overlayPlugin,
  zfsPlugin,
  snapshotsServicePlugin,
  snapshotsGrpcPlugin,
  erofsHandlerPlugin,
  mountManagerPlugin,
  layerLimitsPlugin,
  walkingPlugin,
  erofsDifferPlugin,
  diffServicePlugin,
  diffGrpcPlugin,
  mountsGrpcPlugin,
];
