import type { Any } from "@bufbuild/protobuf/wkt";
import { ErrorKind, failure } from "#base/errors.ts";
import { type FleetConfig, pluginRoot } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import { pluginUri } from "#config/manifest.ts";
import type { PluginSettings } from "#config/settings.ts";
import { findDeprecations } from "#fleet/deprecations.ts";
import type { Logger } from "#fleet/log.ts";
import { type PluginDefinition, skipPlugin, skipPluginBecause } from "#fleet/plugin.ts";
import { checkExporter, whyNotTraced } from "#fleet/tracing/open-tracer.ts";
import {
  Introspection,
  type Plugin,
  type PluginInfoRequest,
} from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { Version } from "#gen/containerd/services/version/v1/version_pb.ts";
import { Health } from "#gen/grpc/health/v1/health_pb.ts";
import { bindService } from "#wire/handler.ts";
import { allPlugins } from "../plugins.ts";
import { debugPlugin, pprofPlugin } from "./debug/plugins.ts";
import { memberDeprecations } from "./member-deprecations.ts";
import { metricsPlugin } from "./metrics/plugins.ts";
import { healthPlugin, introspectionPlugin, versionPlugin } from "./plugins.ts";
import { healthHandlers } from "./rpc/health.ts";
import { introspectionHandlers, openServerUuid } from "./rpc/introspection.ts";
import { versionHandlers } from "./rpc/version.ts";
import { tcpPlugin } from "./sockets/plugins.ts";
import type { TcpListener } from "./sockets/tcp-listener.ts";
import { otlpPlugin, tracingPlugin } from "./tracing/plugins.ts";
import type { TraceExporter } from "./tracing/trace-export.ts";

/** What the gateway's own plugins answer about the fleet. */
export interface FleetState {
  /** Every plugin of the fleet as it is at the time of the call. */
  readonly plugins: () => readonly Plugin[];
  /** Asks the process that carries a plugin for what the plugin tells for options. */
  readonly inspect: (request: PluginInfoRequest) => Promise<Any | undefined>;
  /** Aborts when a process of the fleet is given up. */
  readonly crippled: AbortSignal;
}

/** What the plugins that are sockets have prepared; what is undefined is not wanted, or has failed. */
export interface PreparedSockets {
  tcp?: TcpListener;
  /** The table of the debug socket. */
  debug?: PluginSettings;
  /** What sends traces. */
  exporter?: TraceExporter;
  /** Whether traces are to be sent. */
  hasTraces?: boolean;
  /** Whether figures are served. */
  hasMetrics?: boolean;
}

/**
 * What the gateway's own plugins do.
 *
 * @param sockets - Gets those that are to be opened.
 */
export function gatewayDefinitions(
  { config, log, sockets }: { readonly config: FleetConfig; readonly log: Logger; readonly sockets: PreparedSockets },
  { plugins, inspect, crippled }: FleetState,
): PluginDefinition[] {
  return [
    {
      manifest: introspectionPlugin,
      init: async () => {
        const uuid = await openServerUuid(pluginRoot(config, pluginUri(introspectionPlugin)));
        const deprecations = await findDeprecations(config, allPlugins);
        const noted = memberDeprecations(config);
        return {
          services: [
            bindService(Introspection, introspectionHandlers({ plugins, inspect, uuid, deprecations, noted })),
          ],
        };
      },
    },
    { manifest: versionPlugin, init: () => ({ services: [bindService(Version, versionHandlers())] }) },
    { manifest: healthPlugin, init: () => ({ services: [bindService(Health, healthHandlers(crippled))] }) },
    {
      manifest: tcpPlugin,
      init: async () => {
        const settings = pluginTable(config, pluginUri(tcpPlugin));
        if (settings.string("address") === "") {
          throw skipPlugin();
        }
        const { TcpListener } = await import("./sockets/tcp-listener.ts");
        sockets.tcp = new TcpListener(settings, log);
        return undefined;
      },
    },
    {
      manifest: debugPlugin,
      init: () => {
        const settings = pluginTable(config, pluginUri(debugPlugin));
        if (settings.string("address") === "" || config.disabledPlugins.includes(pluginUri(pprofPlugin))) {
          throw skipPlugin();
        }
        sockets.debug = settings;
        return undefined;
      },
    },
    {
      manifest: otlpPlugin,
      init: async () => {
        const obstacle = whyNotTraced(process.env);
        if (obstacle !== undefined) {
          throw skipPluginBecause(obstacle);
        }
        checkExporter(process.env);
        const { openExporter } = await import("./tracing/trace-export.ts");
        sockets.exporter = await openExporter(process.env);
        return undefined;
      },
    },
    {
      manifest: tracingPlugin,
      init: () => {
        const obstacle = whyNotTraced(process.env);
        if (obstacle !== undefined) {
          throw skipPluginBecause(obstacle);
        }
        checkExporter(process.env);
        if (sockets.exporter === undefined) {
          throw failure(
            ErrorKind.NotFound,
            `failed to get tracing processors: no plugins registered for ${otlpPlugin.type}: plugin`,
          );
        }
        sockets.hasTraces = true;
        return undefined;
      },
    },
    {
      manifest: metricsPlugin,
      init: () => {
        if (config.metrics.address === "") {
          throw skipPlugin();
        }
        sockets.hasMetrics = true;
        return undefined;
      },
    },
  ];
}
