import type { PluginManifest } from "#fleet/manifest.ts";

const metadataType = "io.containerd.metadata.v1";
const collectorType = "io.containerd.gc.v1";
const contentType = "io.containerd.content.v1";
const eventType = "io.containerd.event.v1";
const snapshotterType = "io.containerd.snapshotter.v1";
const warningType = "io.containerd.warning.v1";
const serviceType = "io.containerd.service.v1";
const grpcType = "io.containerd.grpc.v1";

/**
 * The database. It keeps containerd's name, since tools look for it.
 *
 * @source containerd v2.3.4 plugins/metadata/plugin.go `BoltConfig`
 */
export const metadataPlugin = {
  type: metadataType,
  id: "bolt",
  requires: [contentType, eventType, snapshotterType],
  settings: {
    content_sharing_policy: {
      type: "string",
      default: "shared",
      about:
        "Whether a namespace gets a blob that another one has by naming its digest (shared), or must bring the bytes as well (isolated).",
    },
    no_sync: {
      type: "boolean",
      default: false,
      about: "Whether commits do not wait for the disk; a power cut then loses the newest records.",
    },
  },
} as const satisfies PluginManifest;

/** The garbage collector. @source containerd v2.3.4 plugins/gc/scheduler.go `config` */
export const schedulerPlugin = {
  type: collectorType,
  id: "scheduler",
  requires: [metadataType],
  reloads: ["pause_threshold", "deletion_threshold", "mutation_threshold", "schedule_delay"],
  settings: {
    pause_threshold: {
      type: "number",
      default: 0.02,
      about: "Largest share of time that scheduled collections may take, at most 0.5.",
    },
    deletion_threshold: {
      type: "integer",
      default: 0,
      about: "Deletions after which a collection is due at once; 0 waits for the other thresholds.",
    },
    mutation_threshold: {
      type: "integer",
      default: 100,
      about: "Changes after which a collection is due once anything has been deleted.",
    },
    schedule_delay: {
      type: "duration",
      default: "0s",
      about: "Wait between what made a collection due and its start.",
    },
    startup_delay: { type: "duration", default: "100ms", about: "Wait before the first collection after the start." },
  },
} as const satisfies PluginManifest;

/** Leases. */
export const leasePlugin = {
  type: "io.containerd.lease.v1",
  id: "manager",
  requires: [metadataType, collectorType],
} as const satisfies PluginManifest;

/** Records of sandboxes. */
export const sandboxStorePlugin = {
  type: "io.containerd.sandbox.store.v1",
  id: "local",
  requires: [metadataType],
} as const satisfies PluginManifest;

/** Records of containers. */
export const containersServicePlugin = {
  type: serviceType,
  id: "containers-service",
  requires: [eventType, metadataType],
} as const satisfies PluginManifest;

/** Records of images. */
export const imagesServicePlugin = {
  type: serviceType,
  id: "images-service",
  requires: [metadataType, collectorType, warningType],
} as const satisfies PluginManifest;

/** Records of namespaces. */
export const namespacesServicePlugin = {
  type: serviceType,
  id: "namespaces-service",
  requires: [eventType, metadataType],
} as const satisfies PluginManifest;

/** Containers as clients call them. */
export const containersGrpcPlugin = {
  type: grpcType,
  id: "containers",
  requires: [serviceType],
} as const satisfies PluginManifest;

/** Images as clients call them. */
export const imagesGrpcPlugin = {
  type: grpcType,
  id: "images",
  requires: [serviceType],
} as const satisfies PluginManifest;

/** Namespaces as clients call them. */
export const namespacesGrpcPlugin = {
  type: grpcType,
  id: "namespaces",
  requires: [serviceType],
} as const satisfies PluginManifest;

/** Leases as clients call them. */
export const leasesGrpcPlugin = {
  type: grpcType,
  id: "leases",
  requires: ["io.containerd.lease.v1"],
} as const satisfies PluginManifest;

/** The store of sandboxes as clients call it. */
export const sandboxesGrpcPlugin = {
  type: grpcType,
  id: "sandboxes",
  requires: ["io.containerd.sandbox.store.v1"],
} as const satisfies PluginManifest;

/** The plugins of this process, in the order of their initialisation. */
export const metadataPlugins: readonly PluginManifest[] = [
  metadataPlugin,
  schedulerPlugin,
  leasePlugin,
  sandboxStorePlugin,
  containersServicePlugin,
  imagesServicePlugin,
  namespacesServicePlugin,
  containersGrpcPlugin,
  imagesGrpcPlugin,
  namespacesGrpcPlugin,
  leasesGrpcPlugin,
  sandboxesGrpcPlugin,
];
