import { type FleetConfig, pluginRoot } from "#config/config.ts";
import type { PluginDefinition } from "#fleet/plugin.ts";
import { Introspection, type Plugin } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { Version } from "#gen/containerd/services/version/v1/version_pb.ts";
import { Health } from "#gen/grpc/health/v1/health_pb.ts";
import { bindService } from "#wire/handler.ts";
import { healthHandlers } from "./rpc/health.ts";
import { introspectionHandlers, openServerUuid } from "./rpc/introspection.ts";
import { versionHandlers } from "./rpc/version.ts";

const grpcType = "io.containerd.grpc.v1";
const serverType = "io.containerd.server.v1";
const serviceType = "io.containerd.service.v1";
const introspectionPlugin = `${grpcType}.introspection`;

/**
 * The plugins that the gateway itself carries.
 *
 * @param plugins - Every plugin of the fleet as it is at the time of the call.
 */
export function gatewayPlugins(config: FleetConfig, plugins: () => readonly Plugin[]): PluginDefinition[] {
  return [
    { type: "io.containerd.warning.v1", id: "deprecations" },
    { type: serviceType, id: "introspection-service", requires: ["io.containerd.warning.v1"] },
    {
      type: grpcType,
      id: "introspection",
      requires: [serviceType],
      init: async () => {
        const uuid = await openServerUuid(pluginRoot(config, introspectionPlugin));
        return { services: [bindService(Introspection, introspectionHandlers({ plugins, uuid }))] };
      },
    },
    { type: grpcType, id: "version", init: () => ({ services: [bindService(Version, versionHandlers())] }) },
    { type: grpcType, id: "healthcheck", init: () => ({ services: [bindService(Health, healthHandlers())] }) },
    { type: serverType, id: "grpc", requires: [grpcType] },
    { type: serverType, id: "ttrpc", requires: ["io.containerd.ttrpc.v1"] },
  ];
}
