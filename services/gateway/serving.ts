import net from "node:net";
import { create, type DescMethod } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel as Idempotency } from "@bufbuild/protobuf/wkt";
import { ErrorKind, failure } from "#base/errors.ts";
import type { FleetConfig, ListenerConfig } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import { grpcListener } from "#config/listeners.ts";
import { pluginUri } from "#config/manifest.ts";
import { guardSocket } from "#fleet/admission.ts";
import { logFailures } from "#fleet/failed-calls.ts";
import type { Logger } from "#fleet/log.ts";
import { socketOwner } from "#fleet/member-sockets.ts";
import { openCallCounts } from "#fleet/metrics/call-counts.ts";
import { initPlugins } from "#fleet/plugin.ts";
import { type ProcessName, privateSocketOf, publicSocketOf, shimEventsSocketOf } from "#fleet/process-name.ts";
import { isEnabled } from "#fleet/startup.ts";
import type { MemberState } from "#fleet/supervisor.ts";
import { routesByPath } from "#fleet/topology.ts";
import { traceInits } from "#fleet/tracing/start-spans.ts";
import type { TraceContext } from "#fleet/tracing/trace-context.ts";
import type { Tracer } from "#fleet/tracing/tracer.ts";
import type { FleetUsers } from "#fleet/users.ts";
import { type Plugin, PluginSchema } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { Fleet } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { StatusSchema } from "#gen/google/rpc/status_pb.ts";
import { peerOf } from "#linux/socket.ts";
import { codeOf } from "#wire/errors.ts";
import { bindService } from "#wire/handler.ts";
import { dial } from "#wire/http2/reusing-socket.ts";
import { type ListenOptions, listen } from "#wire/listen.ts";
import type { MessageLimits } from "#wire/message-limits.ts";
import { observeAll } from "#wire/observe.ts";
import { hostRpc, serveRpc } from "#wire/server.ts";
import { openAccess } from "./access/open-access.ts";
import { FleetState } from "./debug/fleet-state.ts";
import { inspectPlugin } from "./descriptions.ts";
import { memberNames } from "./members.ts";
import { gatewayDefinitions, type PreparedSockets } from "./plugin-definitions.ts";
import type { RefusedManifest } from "./plugin-directory/read-directory.ts";
import { missingRequirements } from "./plugin-graph.ts";
import type { PluginRegistry } from "./plugin-registry.ts";
import { gatewayPlugins } from "./plugins.ts";
import { Relay, type RelayMethod } from "./relay/relay.ts";
import { RelayCounts } from "./relay/relay-counts.ts";
import { fleetHandlers } from "./rpc/fleet.ts";
import { messageLimitsOf } from "./sockets/message-sizes.ts";
import { TtrpcRelay } from "./ttrpc-relay.ts";

/** How long calls that are under way may take when the daemon stops. */
const drainMs = 2_000;

export interface ServingOptions {
  readonly config: FleetConfig;
  readonly log: Logger;
  readonly users: FleetUsers;
  /** Gets what has to be closed. */
  readonly resources: AsyncDisposableStack;
  /** What the other processes carry; gets what the gateway carries. */
  readonly registry: PluginRegistry;
  /** Aborted when a process is given up. */
  readonly crippled: AbortSignal;
  /** Sees to it that a process comes up which runs on demand. */
  readonly wake: (name: ProcessName) => void;
  /** What has become of the processes that the gateway runs; none when a service manager does. */
  readonly members: () => readonly MemberState[];
  /** Manifests of the plugin directory that nothing is run for. */
  readonly refused: readonly RefusedManifest[];
  /** Traces calls and the start; undefined when nobody wants traces. */
  readonly tracing: { readonly tracer: Tracer; readonly start: TraceContext | undefined } | undefined;
}

/**
 * Makes the gateway's own plugins ready and opens the sockets. The other processes serve by then.
 *
 * @throws {@link FlotillaError} `failed_precondition` when a required plugin is missing or has failed; what keeps a socket from being opened.
 */
export async function serveClients({
  config,
  log,
  users,
  resources,
  registry,
  crippled,
  wake,
  members,
  refused,
  tracing,
}: ServingOptions): Promise<void> {
  const sockets: PreparedSockets = {};
  const own = await initPlugins(
    gatewayPlugins,
    gatewayDefinitions(
      { config, log, sockets },
      {
        plugins: () => registry.all(),
        inspect: async (request) => {
          const owner = registry.ownerOf(request);
          if (owner === undefined || owner === "gateway") {
            throw failure(ErrorKind.NotImplemented, "plugin does not provided extra information");
          }
          wake(owner);
          return await inspectPlugin(config, owner, request);
        },
        crippled,
      },
    ),
    { config, log, ...(tracing === undefined ? {} : { traced: traceInits(tracing.tracer, tracing.start) }) },
  );
  registry.record("gateway", [...own.plugins, ...refused.map(showRefused)]);
  const missing = missingRequirements(config.requiredPlugins, registry.all());
  if (missing[0] !== undefined) {
    throw failure(ErrorKind.FailedPrecondition, missing[0]);
  }
  const calls = openCallCounts(config.metrics, own.services);
  const tracer = sockets.hasTraces === true ? tracing?.tracer : undefined;
  const observer = observeAll(
    logFailures(log),
    ...[calls?.observer, tracer?.observer].filter((each) => each !== undefined),
  );
  if (tracer !== undefined && sockets.exporter !== undefined) {
    const { sendTraces } = await import("./tracing/send-traces.ts");
    sendTraces({ config, log, tracer, exporter: sockets.exporter, resources });
  }
  /** Opens a socket, which a span tells of. */
  const opened = <T>(address: string, open: () => Promise<T>): Promise<T> =>
    tracer === undefined ? open() : tracer.trace("listen", { address }, open, tracing?.start);
  const host = hostRpc({ services: own.services, observer });
  resources.defer(() => host.close(drainMs));

  const counts = new RelayCounts();
  const relays: Relay[] = [];
  const processes = memberNames(config.disabledPlugins);
  const privateServer = await serveRpc({
    socketPath: privateSocketOf(config.state, "gateway"),
    admit: guardSocket({ process: "gateway", side: "private", log, users }),
    ...socketOwner(users, "gateway"),
    services: [
      bindService(Fleet, fleetHandlers({ wake, processes, members, relay: counts, calls: () => sumCalls(relays) })),
    ],
    observer: logFailures(log),
  });
  resources.defer(() => privateServer.close(drainMs));

  const access = openAccess(config, log, resources);
  const routes = relayRoutes(config.disabledPlugins);
  if (sockets.hasMetrics === true) {
    const { serveFigures } = await import("./metrics/serve-figures.ts");
    await serveFigures({ config, log, resources, processes, members, relay: counts, calls });
  }
  const fleet = new FleetState({
    state: config.state,
    processes,
    calls: () => relays.flatMap((relay) => relay.calls()),
  });
  process.on("SIGUSR1", () => void fleet.tell(log));
  if (sockets.debug !== undefined) {
    const { serveDebug } = await import("./debug/debug-server.ts");
    const server = await serveDebug(sockets.debug, fleet, log);
    resources.defer(() => {
      server.closeAllConnections();
      server.close();
    });
  }
  /** Serves the clients of one socket by the relay. */
  const relayClients = async (
    messageLimits: MessageLimits,
    open: (onConnection: (socket: net.Socket) => void) => Promise<net.Server>,
  ): Promise<void> => {
    const relay = new Relay({
      routes,
      messageLimits,
      ...(access === undefined ? {} : { access }),
      counts,
      ...(tracer === undefined ? {} : { observer: tracer.observer }),
      local: { upstream: "gateway", host },
      connectUpstream: (upstream) => {
        const name = upstream as ProcessName;
        wake(name);
        return dial(publicSocketOf(config.state, name));
      },
      onWarning: (fields, message) => log.warn(fields, message),
    });
    relays.push(relay);
    const server = await open((socket) => relay.handleConnection(socket));
    resources.defer(async () => {
      server.close();
      await relay.close(drainMs);
    });
  };
  const ttrpcRelay = new TtrpcRelay({
    connectUpstream: () => net.connect(shimEventsSocketOf(config.state)),
    onWarning: (fields, message) => log.warn(fields, message),
  });
  const ttrpc = await opened(config.ttrpc.address, () =>
    listen({ ...publicSocket(config.ttrpc), admit: isOwnPeer }, (socket) => ttrpcRelay.handleConnection(socket)),
  );
  resources.defer(async () => {
    ttrpc.close();
    await ttrpcRelay.close(drainMs);
  });
  const { tcp } = sockets;
  if (tcp !== undefined) {
    await relayClients(tcp.limits, (onConnection) => opened("grpc-tcp", () => tcp.listen(onConnection)));
  }
  const grpcSettings = pluginTable(config, pluginUri(grpcListener));
  await relayClients(messageLimitsOf(grpcSettings), (onConnection) =>
    opened(config.grpc.address, () => listen(publicSocket(config.grpc), onConnection)),
  );
  log.info({ address: config.grpc.address }, "serving...");
}

/** The calls under way of all sockets, by process. */
function sumCalls(relays: readonly Relay[]): Map<string, number> {
  const sum = new Map<string, number>();
  for (const relay of relays) {
    for (const [name, count] of relay.callsUnderWay()) {
      sum.set(name, (sum.get(name) ?? 0) + count);
    }
  }
  return sum;
}

/** A manifest that was refused, so that `ctr plugins ls` tells why there is no such plugin. */
function showRefused({ name, reason }: RefusedManifest): Plugin {
  const initErr = create(StatusSchema, { code: codeOf(ErrorKind.FailedPrecondition), message: reason });
  return create(PluginSchema, { type: "io.flotilla.plugin.v1", id: name, initErr });
}

/** Clients may use the socket by the user and the group that the configuration names. */
function publicSocket({ address, uid, gid }: ListenerConfig): ListenOptions {
  return { socketPath: address, owner: { uid, gid } };
}

/** Only who runs as the daemon does may tell events of containers. @source containerd/ttrpc unixcreds_linux.go `UnixSocketRequireSameUser` */
function isOwnPeer(socket: net.Socket): boolean {
  const { uid, gid } = peerOf(socket);
  return uid === process.geteuid?.() && gid === process.getegid?.();
}

function isOneRequest({ methodKind }: DescMethod): boolean {
  return methodKind === "unary" || methodKind === "server_streaming";
}

function relayRoutes(disabledPlugins: readonly string[]): Map<string, RelayMethod> {
  const routes = new Map<string, RelayMethod>();
  for (const [path, { owner, method }] of routesByPath()) {
    if (isEnabled(owner, disabledPlugins)) {
      routes.set(path, {
        upstream: owner,
        repeatable: isOneRequest(method) && method.idempotency !== Idempotency.IDEMPOTENCY_UNKNOWN,
        streaming: method.methodKind !== "unary",
        changing: method.idempotency !== Idempotency.NO_SIDE_EFFECTS,
      });
    }
  }
  return routes;
}
