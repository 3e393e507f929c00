import type { Any } from "@bufbuild/protobuf/wkt";
import { type FleetConfig, pluginRoot } from "#config/config.ts";
import { pluginUri } from "#config/manifest.ts";
import type { PluginDefinition } from "#fleet/plugin.ts";
import {
  Introspection,
  type Plugin,
  type PluginInfoRequest,
} from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { Version } from "#gen/containerd/services/version/v1/version_pb.ts";
import { Health } from "#gen/grpc/health/v1/health_pb.ts";
import { bindService } from "#wire/handler.ts";
import { healthPlugin, introspectionPlugin, versionPlugin } from "./plugins.ts";
import { healthHandlers } from "./rpc/health.ts";
import { introspectionHandlers, openServerUuid } from "./rpc/introspection.ts";
import { versionHandlers } from "./rpc/version.ts";

/** What the gateway's own plugins answer about the fleet. */
export interface FleetState {
  /** Every plugin of the fleet as it is at the time of the call. */
  readonly plugins: () => readonly Plugin[];
  /** Asks the process that carries a plugin for what the plugin tells for options. */
  readonly inspect: (request: PluginInfoRequest) => Promise<Any | undefined>;
  /** Aborts when a process of the fleet is given up. */
  readonly crippled: AbortSignal;
}

/** What the gateway's own plugins do. */
export function gatewayDefinitions(
  config: FleetConfig,
  { plugins, inspect, crippled }: FleetState,
): PluginDefinition[] {
  return [
    {
      manifest: introspectionPlugin,
      init: async () => {
        const uuid = await openServerUuid(pluginRoot(config, pluginUri(introspectionPlugin)));
        return { services: [bindService(Introspection, introspectionHandlers({ plugins, inspect, uuid }))] };
      },
    },
    { manifest: versionPlugin, init: () => ({ services: [bindService(Version, versionHandlers())] }) },
    { manifest: healthPlugin, init: () => ({ services: [bindService(Health, healthHandlers(crippled))] }) },
  ];
}
