import type { PluginManifest } from "#fleet/manifest.ts";

const processorType = "io.containerd.tracing.processor.v1";

/** Sends spans to a collector. @source containerd v2.3.4 pkg/tracing/plugin/otlp.go */
export const otlpPlugin = {
  type: processorType,
  id: "otlp",
  settings: {
    endpoint: { type: "string", about: "Without effect; `OTEL_EXPORTER_OTLP_ENDPOINT` says where traces go." },
    protocol: { type: "string", about: "Without effect; `OTEL_EXPORTER_OTLP_PROTOCOL` says how they go there." },
    insecure: { type: "boolean", about: "Without effect; the scheme of the endpoint says it." },
  },
  deprecated: (settings) =>
    settings.keys().length === 0
      ? []
      : [
          {
            id: "io.containerd.deprecation/tracing-processor-config",
            message:
              'The `otlp` property of `[plugins."io.containerd.tracing.processor.v1".otlp]` is deprecated since containerd v1.6 and will be removed in containerd v2.4. Use OTLP environment variables instead: https://opentelemetry.io/docs/specs/otel/protocol/exporter/',
          },
        ],
} as const satisfies PluginManifest;

/** Traces what the fleet does. @source containerd v2.3.4 pkg/tracing/plugin/otlp.go */
export const tracingPlugin = {
  type: "io.containerd.internal.v1",
  id: "tracing",
  requires: [processorType],
  settings: {
    service_name: { type: "string", about: "Without effect; `OTEL_SERVICE_NAME` names the daemon in traces." },
    sampling_ratio: {
      type: "number",
      about: "Without effect; `OTEL_TRACES_SAMPLER` says which calls are traced.",
    },
  },
  deprecated: (settings) =>
    settings.keys().length === 0
      ? []
      : [
          {
            id: "io.containerd.deprecation/tracing-service-config",
            message:
              'The `tracing` property of `[plugins."io.containerd.internal.v1".tracing]` is deprecated since containerd v1.6 and will be removed in containerd v2.4. Use OTEL environment variables instead: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/',
          },
        ],
} as const satisfies PluginManifest;

/** Calls are traced where they are passed on, made and answered. @source containerd v2.3.4 plugins/server/grpc/metrics.go */
export const callTracesPlugin = {
  type: "io.containerd.metrics.v1",
  id: "grpc-otel",
  requires: ["io.containerd.grpc.v1"],
} as const satisfies PluginManifest;
