import { callMetrics, metricsListener } from "#config/listeners.ts";
import type { PluginManifest } from "#fleet/manifest.ts";

const grpcType = "io.containerd.grpc.v1";

/** Calls are counted where they are answered. @source containerd v2.3.4 plugins/server/grpc/metrics.go */
export const callMetricsPlugin = { ...callMetrics, requires: [grpcType] } as const satisfies PluginManifest;

/** Where figures are told. @source containerd v2.3.4 plugins/server/metrics */
export const metricsPlugin: PluginManifest = metricsListener;
