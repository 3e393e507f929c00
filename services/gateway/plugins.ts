import { grpcListener, ttrpcListener } from "#config/listeners.ts";
import type { PluginManifest } from "#fleet/manifest.ts";
import { debugPlugin, pprofPlugin } from "./debug/plugins.ts";
import { callMetricsPlugin, metricsPlugin } from "./metrics/plugins.ts";
import { tcpPlugin } from "./sockets/plugins.ts";
import { callTracesPlugin, otlpPlugin, tracingPlugin } from "./tracing/plugins.ts";

const grpcType = "io.containerd.grpc.v1";
const serviceType = "io.containerd.service.v1";
const warningType = "io.containerd.warning.v1";

/** Known to clients that look for containerd's plugin; `shared/fleet/deprecations.ts` finds what is told. */
const deprecationsPlugin = { type: warningType, id: "deprecations" } as const satisfies PluginManifest;

/** Known to clients that look for containerd's plugin. */
const introspectionServicePlugin = {
  type: serviceType,
  id: "introspection-service",
  requires: [warningType],
} as const satisfies PluginManifest;

/** Introspection as clients call it. Its directory keeps the identity of the installation. */
export const introspectionPlugin = {
  type: grpcType,
  id: "introspection",
  requires: [serviceType],
} as const satisfies PluginManifest;

/** Version as clients call it. */
export const versionPlugin = { type: grpcType, id: "version" } as const satisfies PluginManifest;

/** Health as clients call it. */
export const healthPlugin = { type: grpcType, id: "healthcheck" } as const satisfies PluginManifest;

/** The socket for gRPC. */
const grpcPlugin = {
  ...grpcListener,
  requires: [grpcType, "io.containerd.metrics.v1"],
} as const satisfies PluginManifest;

/** The socket for ttrpc. */
const ttrpcPlugin = { ...ttrpcListener, requires: ["io.containerd.ttrpc.v1"] } as const satisfies PluginManifest;

/** The plugins of this process, in the order of their initialisation. */
export const gatewayPlugins: readonly PluginManifest[] = [
  deprecationsPlugin,
  introspectionServicePlugin,
  introspectionPlugin,
  versionPlugin,
  healthPlugin,
  otlpPlugin,
  tracingPlugin,
  callMetricsPlugin,
  callTracesPlugin,
  pprofPlugin,
  grpcPlugin,
  tcpPlugin,
  ttrpcPlugin,
  metricsPlugin,
  debugPlugin,
];

/** How the fleet is run. It has a table in the configuration, but is no plugin that Introspection shows. */
export const supervisorPlugin = {
  type: "io.flotilla.fleet.v1",
  id: "supervisor",
  settings: {
    units: {
      type: "boolean",
      default: false,
      about: "Whether a service manager runs each process as a unit of its own, so that the gateway only watches.",
    },
    on_demand_idle: {
      type: "duration",
      default: "5m0s",
      about: "How long a process that runs on demand goes on without a call; 0s for as long as the daemon runs.",
    },
    users: {
      type: "string",
      default: "auto",
      about:
        'Whether each process runs as a user of its own: "own", "one" for all as the user of the daemon, or "auto" for own ones where they exist and can read what they have to.',
    },
    user_ids: {
      type: "names",
      about:
        "Ids of the users, and of the group flotilla, by their names; those of the machine where they are not here.",
      each: { type: "integer", about: "The id." },
    },
  },
} as const satisfies PluginManifest;
