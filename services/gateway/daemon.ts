import net from "node:net";
import { MethodOptions_IdempotencyLevel as Idempotency } from "@bufbuild/protobuf/wkt";
import { aborted } from "#base/aborted.ts";
import { ErrorKind, failure } from "#base/errors.ts";
import type { FleetConfig, ListenerConfig } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import type { DaemonFlags } from "#config/flags.ts";
import { loadConfig } from "#config/load.ts";
import { pluginUri } from "#config/manifest.ts";
import { guardSocket, usersToday } from "#fleet/admission.ts";
import { keepCompiledCode } from "#fleet/compiled-code.ts";
import { logFailures } from "#fleet/failed-calls.ts";
import { type Logger, openLog } from "#fleet/log.ts";
import { keepMemorySmall } from "#fleet/memory-keeper.ts";
import { initPlugins } from "#fleet/plugin.ts";
import { onDemandProcesses, type ProcessName, privateSocketOf, publicSocketOf } from "#fleet/process-name.ts";
import { defaultRestartPolicy } from "#fleet/restart-policy.ts";
import { endOnBug, forceExitAfter } from "#fleet/run.ts";
import { Supervisor } from "#fleet/supervisor.ts";
import { routesByPath } from "#fleet/topology.ts";
import { daemonRevision, daemonVersion } from "#fleet/version.ts";
import { Fleet } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { setOutOfMemoryScore } from "#linux/process.ts";
import { peerOf } from "#linux/socket.ts";
import { cleanTemporaryMounts } from "#linux/temporary-mount.ts";
import { bindService } from "#wire/handler.ts";
import { type ListenOptions, listen } from "#wire/listen.ts";
import { hostRpc, serveRpc } from "#wire/server.ts";
import { allPlugins } from "../plugins.ts";
import { joinCgroup } from "./cgroup.ts";
import { createDirectories } from "./directories.ts";
import { describeMember, fleetMember, inspectPlugin, memberNames, promisedPlugins } from "./members.ts";
import { claimRoot, refuseLiveSocket } from "./ownership.ts";
import { gatewayDefinitions } from "./plugin-definitions.ts";
import { missingRequirements } from "./plugin-graph.ts";
import { PluginRegistry } from "./plugin-registry.ts";
import { gatewayPlugins, supervisorPlugin } from "./plugins.ts";
import { Relay, type RelayMethod } from "./relay/relay.ts";
import { fleetHandlers } from "./rpc/fleet.ts";
import { notifyServiceManager } from "./systemd.ts";
import { TtrpcRelay } from "./ttrpc-relay.ts";
import { welcomeText } from "./welcome.ts";

/** How long calls that are under way may take when the daemon stops. */
const drainMs = 2_000;
/** The whole fleet has stopped by then, or is ended by force: a little less than systemd waits. */
const stopMsMax = 85_000;

/**
 * Runs the daemon from its flags to its end, in containerd's order: configuration, directories, signals, leftovers, plugins,
 * sockets, ready. No public socket exists before every plugin is initialised.
 *
 * Resolves after an orderly stop by SIGTERM or SIGINT. Containers go on running.
 *
 * @throws What kept the daemon from starting; everything that had been started is stopped again.
 * @source containerd v2.3.4 cmd/containerd/command/main.go, cmd/containerd/server/server.go
 */
export async function runDaemon(flags: DaemonFlags): Promise<void> {
  process.title = "flotilla: gateway";
  const startedMs = performance.now();
  const { config, warnings } = await loadConfig(flags, allPlugins);
  const log = openLog("gateway", config.log.level);
  endOnBug(log);
  warnings.forEach((warning) => log.warn(warning));
  await createDirectories(config);
  const stop = watchSignals(log);
  await using resources = new AsyncDisposableStack();
  try {
    await startFleet({ config, flags, log, resources, stop });
    await notifyServiceManager(log, "READY=1", "STATUS=serving");
    if (process.env["FLOTILLA_WELCOME"] === "1") {
      process.stdout.write(welcomeText(config));
    }
    log.info(`containerd successfully booted in ${((performance.now() - startedMs) / 1000).toFixed(6)}s`);
    keepMemorySmall();
    keepCompiledCode();
    await aborted(stop.signal);
    await notifyServiceManager(log, "STOPPING=1");
  } catch (error) {
    // What a signal interrupts fails; that is the signal's doing.
    if (!stop.signal.aborted) {
      throw error;
    }
  } finally {
    forceExitAfter(stopMsMax);
  }
  if (stop.signal.reason instanceof Error) {
    throw stop.signal.reason;
  }
}

interface StartOptions {
  readonly config: FleetConfig;
  readonly flags: DaemonFlags;
  readonly log: Logger;
  readonly resources: AsyncDisposableStack;
  /** Aborted without an error by a signal, with one when the fleet cannot go on. */
  readonly stop: AbortController;
}

async function startFleet({ config, flags, log, resources, stop }: StartOptions): Promise<void> {
  for (const address of [config.grpc.address, config.ttrpc.address]) {
    await refuseLiveSocket(address);
  }
  resources.use(await claimRoot(config));
  if (config.oomScore !== 0) {
    // Before anything is started, so that the whole fleet has it.
    try {
      setOutOfMemoryScore(config.oomScore);
    } catch (error) {
      log.error({ err: error }, `failed to change OOM score to ${config.oomScore}`);
    }
  }
  if (config.cgroupPath !== "") {
    await joinCgroup(config.cgroupPath);
  }
  log.info({ version: daemonVersion(), revision: daemonRevision() }, "starting containerd");

  const registry = new PluginRegistry();
  /** Aborted when a process is given up. */
  const crippled = new AbortController();
  const record: PluginRegistry["record"] = (name, plugins) => registry.record(name, plugins);
  /** Sees to it that a process comes up which runs on demand. */
  let wake: (name: ProcessName) => void = () => undefined;
  const settings = pluginTable(config, pluginUri(supervisorPlugin));
  if (settings.boolean("units")) {
    await Promise.all(memberNames().map(async (name) => record(name, await describeMember(config, name, stop.signal))));
  } else {
    // Nobody else uses this root now, so that what is mounted there is left over.
    for (const warning of await cleanTemporaryMounts(`${config.root}/tmpmounts`)) {
      log.warn({ err: warning }, "cleanup temp mount");
    }
    const supervisor = resources.adopt(
      new Supervisor({
        policy: defaultRestartPolicy,
        log,
        interrupted: stop.signal,
        onFailed: (name) => {
          registry.fail(name as ProcessName, `process ${name} keeps dying`);
          crippled.abort();
          const reasons = missingRequirements(config.requiredPlugins, registry.all());
          if (reasons[0] !== undefined) {
            stop.abort(failure(ErrorKind.Unavailable, reasons[0]));
          }
        },
      }),
      (owned) => owned.stop(),
    );
    stop.signal.throwIfAborted();
    const idleMs = settings.durationMs("on_demand_idle");
    await Promise.all(
      memberNames().map(async (name) => {
        const member = fleetMember(name, { flags, idleMs, onReady: record });
        if (onDemandProcesses.has(name)) {
          record(name, promisedPlugins(name, config));
          supervisor.keepReady(member);
        } else {
          await supervisor.start(member);
        }
      }),
    );
    wake = (name) => supervisor.wake(name);
  }

  stop.signal.throwIfAborted();
  const own = await initPlugins(
    gatewayPlugins,
    gatewayDefinitions(config, {
      plugins: () => registry.all(),
      inspect: async (request) => {
        const owner = registry.ownerOf(request);
        if (owner === undefined || owner === "gateway") {
          throw failure(ErrorKind.NotImplemented, "plugin does not provided extra information");
        }
        wake(owner);
        return await inspectPlugin(config, owner, request);
      },
      crippled: crippled.signal,
    }),
    { config, log },
  );
  registry.record("gateway", own.plugins);
  const missing = missingRequirements(config.requiredPlugins, registry.all());
  if (missing[0] !== undefined) {
    throw failure(ErrorKind.FailedPrecondition, missing[0]);
  }
  const host = hostRpc({ services: own.services, observer: logFailures(log) });
  resources.defer(() => host.close(drainMs));

  const privateServer = await serveRpc({
    socketPath: privateSocketOf(config.state, "gateway"),
    admit: guardSocket({ process: "gateway", side: "private", log, users: usersToday }),
    services: [
      bindService(
        Fleet,
        fleetHandlers((name) => wake(name)),
      ),
    ],
    observer: logFailures(log),
  });
  resources.defer(() => privateServer.close(drainMs));

  const relay = new Relay({
    routes: relayRoutes(),
    local: { upstream: "gateway", host },
    connectUpstream: (upstream) => {
      const name = upstream as ProcessName;
      wake(name);
      return net.connect({ path: publicSocketOf(config.state, name), allowHalfOpen: true });
    },
    onWarning: (fields, message) => log.warn(fields, message),
  });
  const ttrpcRelay = new TtrpcRelay({
    connectUpstream: () => net.connect(`${config.state}/events.ttrpc.sock`),
    onWarning: (fields, message) => log.warn(fields, message),
  });
  const ttrpc = await listen({ ...publicSocket(config.ttrpc), admit: isOwnPeer }, (socket) =>
    ttrpcRelay.handleConnection(socket),
  );
  resources.defer(async () => {
    ttrpc.close();
    await ttrpcRelay.close(drainMs);
  });
  const grpc = await listen(publicSocket(config.grpc), (socket) => relay.handleConnection(socket));
  resources.defer(async () => {
    grpc.close();
    await relay.close(drainMs);
  });
  log.info({ address: config.grpc.address }, "serving...");
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

function relayRoutes(): Map<string, RelayMethod> {
  return new Map(
    Array.from(routesByPath(), ([path, { owner, method }]) => [
      path,
      {
        upstream: owner,
        repeatable: method.methodKind === "unary" && method.idempotency === Idempotency.NO_SIDE_EFFECTS,
      },
    ]),
  );
}

function watchSignals(log: Logger): AbortController {
  const stop = new AbortController();
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      log.info({ signal }, "stopping");
      stop.abort(signal);
    });
  }
  return stop;
}
