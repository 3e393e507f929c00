import { mkdir } from "node:fs/promises";
import { create, toBinary } from "@bufbuild/protobuf";
import { aborted } from "#base/aborted.ts";
import { ErrorKind, errorMessage, failure } from "#base/errors.ts";
import type { FleetConfig } from "#config/config.ts";
import { parseDaemonFlags } from "#config/flags.ts";
import { loadConfig } from "#config/load.ts";
import { DescribeResponseSchema } from "#gen/flotilla/fleet/v1/fleet_pb.ts";
import { Health, HealthCheckResponse_ServingStatus as ServingStatus } from "#gen/grpc/health/v1/health_pb.ts";
import { connectRpc, type RpcConnection } from "#wire/client.ts";
import { bindService, type ServiceBinding } from "#wire/handler.ts";
import { type CallUnderWay, observeAll } from "#wire/observe.ts";
import type { RpcServer } from "#wire/server.ts";
import { tellOwner } from "./child.ts";
import { keepCompiledCode } from "./compiled-code.ts";
import { processState } from "./debug/process-state.ts";
import { endOnBug, forceExitAfter } from "./ends.ts";
import { logFailures } from "./failed-calls.ts";
import { IdleWatch } from "./idle-watch.ts";
import { type Logger, openLog } from "./log.ts";
import type { PluginManifest } from "./manifest.ts";
import { memberService } from "./member-service.ts";
import { publicServices, serveMember } from "./member-sockets.ts";
import { keepMemorySmall } from "./memory-keeper.ts";
import { openCallCounts } from "./metrics/call-counts.ts";
import type { MetricFamily } from "./metrics/family.ts";
import { NotedDeprecations } from "./noted-deprecations.ts";
import { initPlugins, type PluginDefinition } from "./plugin.ts";
import { type ProcessName, privateSocketOf, publicSocketOf, stateDirectoryOf } from "./process-name.ts";
import { type ProxyPlugin, proxyPluginsOf } from "./proxies/proxy-plugins.ts";
import { withRegisteredPlugins } from "./proxies/registered-plugins.ts";
import { Reloader, type ReloadListener, tellReload } from "./reload.ts";
import { keepWatchdog, notifyServiceManager } from "./service-manager.ts";
import { showSourcePlaces } from "./source-places.ts";
import { idleVariable, onDemandProcesses } from "./startup.ts";
import { giveUpSystemCalls } from "./system-calls.ts";
import { openTracer, takeStartContext } from "./tracing/open-tracer.ts";
import { traceFieldsOf, traceInits } from "./tracing/start-spans.ts";
import type { Tracer } from "./tracing/tracer.ts";
import { wakePeer } from "./wake.ts";

/** How long running calls may take while a process stops. */
const drainMs = 5_000;
/** After this a stopping process is ended by force. */
const stopMsMax = 10_000;

/** What a process of the fleet builds itself from. */
export interface ProcessContext {
  readonly config: FleetConfig;
  readonly log: Logger;
  /** Owns everything that must be closed; unwound backwards when the process stops. */
  readonly resources: AsyncDisposableStack;
  /** Aborts when the process begins to stop. */
  readonly stopping: AbortSignal;
  /** Has a part take part when the configuration is read again. */
  onReload(listener: ReloadListener): void;
  /** The plugins that are behind sockets of others and answered by way of this process; disabled ones left out. */
  readonly proxies: readonly ProxyPlugin[];
  /** Is told of what clients and plugins use that is going to be taken away. */
  readonly deprecations: NotedDeprecations;
  /** Traces what is done; undefined when nobody wants traces. */
  readonly tracer?: Tracer | undefined;
  /** Opens a connection to another process of the fleet; closed with the resources. */
  connect(peer: ProcessName): RpcConnection;
}

/** What a process consists of. */
export interface ProcessParts {
  /** What the plugins of the process do. One that does nothing of its own need not be here. */
  readonly plugins: readonly PluginDefinition[];
  /** Private services that belong to no plugin. */
  readonly services?: readonly ServiceBinding[];
  /** Called when the socket is open and the process is about to be reported ready. */
  onReady?(): Promise<void> | void;
  /** Tells whether the process does what it is for, for its health check; absent for always. */
  isWell?(): boolean;
  /** Figures that this process alone has, for whoever watches the fleet. Asked again and again, so it has to be cheap. */
  measure?(): Promise<readonly MetricFamily[]> | readonly MetricFamily[];
  /** Whether there is work that no call waits for. A process on demand does not end while there is. */
  isBusy?(): boolean;
}

function healthOf(parts: ProcessParts): ServingStatus {
  return (parts.isWell?.() ?? true) ? ServingStatus.SERVING : ServingStatus.NOT_SERVING;
}

/**
 * Runs a process of the fleet from start to end: configuration, log, plugins, socket, ready, drain, stop.
 *
 * The process ends by SIGTERM or SIGINT with status 0, by a failed start with 1, and after a bug with 70.
 *
 * @param manifests - The plugins of the process, in the order of their initialisation.
 */
export async function runProcess(
  name: Exclude<ProcessName, "gateway">,
  manifests: readonly PluginManifest[],
  compose: (context: ProcessContext) => Promise<ProcessParts> | ProcessParts,
): Promise<void> {
  process.title = `flotilla: ${name}`;
  const load = async (): Promise<FleetConfig> =>
    (await loadConfig(parseDaemonFlags(process.argv.slice(2)), manifests)).config;
  const config = await load();
  const tracer = await openTracer(process.env);
  const startContext = takeStartContext(process.env);
  const traceFields = (): Readonly<Record<string, string>> => traceFieldsOf(tracer);
  const log = openLog(name, config.log, config.log.hasTraceId && tracer !== undefined ? traceFields : undefined);
  if (config.temp !== "") {
    process.env["TMPDIR"] = config.temp;
  }
  const unfiltered = giveUpSystemCalls(name);
  if (unfiltered !== undefined) {
    log.warn({ reason: unfiltered }, "system calls are not filtered");
  }
  const stop = new AbortController();
  endOnBug(log);
  await using resources = new AsyncDisposableStack();
  const stopped = aborted(stop.signal);
  const stopFor = (reason: string): void => {
    log.debug({ reason }, "stopping");
    stop.abort(failure(ErrorKind.Unavailable, `${name} is stopping`));
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.once(signal, () => stopFor(signal));
  }
  let server: RpcServer | undefined;
  const calls = (): readonly CallUnderWay[] => server?.calls() ?? [];
  // Where nobody listened, the signal would open a debugger to whoever can reach the loopback address.
  process.on("SIGUSR1", () => log.info({ state: processState(name, calls()) }, `state of process ${name}`));
  const reloader = new Reloader({ config, log, load, plugins: manifests });
  const deprecations = new NotedDeprecations();
  process.on("SIGHUP", () => {
    reloader.reload().then(
      (report) => tellReload(log, report),
      (error: unknown) => log.error({ err: error }, "configuration is not reloaded"),
    );
  });
  try {
    await mkdir(stateDirectoryOf(config.state, name), { recursive: true, mode: 0o710 });
    const proxies = proxyPluginsOf(name, await withRegisteredPlugins(config), manifests);
    const parts = await compose({
      config,
      log,
      resources,
      stopping: stop.signal,
      deprecations,
      tracer,
      proxies,
      onReload: (listener) => reloader.onReload(listener),
      connect: (peer) =>
        resources.adopt(
          connectRpc(privateSocketOf(config.state, peer), {
            keepsCalls: true,
            ...(onDemandProcesses.has(peer) ? { onAbsent: () => wakePeer(config, peer) } : {}),
            ...(tracer === undefined ? {} : { observer: tracer.observer }),
          }),
          (connection) => connection.close(),
        ),
    });
    // Those of others come first, since ours may need them.
    const carried = [...proxies.map(({ manifest }) => manifest), ...manifests];
    const traced = tracer === undefined ? undefined : traceInits(tracer, startContext);
    const initialised = await initPlugins(carried, parts.plugins, {
      config,
      log,
      ...(traced === undefined ? {} : { traced }),
    });
    const description = create(DescribeResponseSchema, { plugins: [...initialised.plugins] });
    const idle = watchIdleness(resources, parts, () => stopFor(`nobody needs ${name}`));
    const services = [...initialised.services, ...(parts.services ?? [])];
    const counts = openCallCounts(config.metrics, publicServices(services));
    const serve = (): Promise<RpcServer> =>
      serveMember({
        state: config.state,
        process: name,
        services,
        ownServices: [
          memberService({
            process: name,
            description,
            plugins: initialised,
            counts,
            resources,
            ...(parts.measure === undefined ? {} : { measure: () => parts.measure?.() ?? [] }),
            reloader,
            deprecations,
            tracer,
            calls,
          }),
          bindService(Health, { check: () => ({ status: healthOf(parts) }) }),
        ],
        observer: observeAll(
          logFailures(log),
          ...[idle?.observer, tracer?.observer].filter((each) => each !== undefined),
        ),
        clientObserver: counts?.observer,
        log,
      });
    const sockets = { public: publicSocketOf(config.state, name), private: privateSocketOf(config.state, name) };
    const serving = await (tracer === undefined ? serve() : tracer.trace("listen", sockets, serve, startContext));
    server = serving;
    resources.defer(() => serving.close(drainMs));
    await parts.onReady?.();
    tellOwner(toBinary(DescribeResponseSchema, description));
    keepWatchdog(log, () => healthOf(parts) === ServingStatus.SERVING);
    await notifyServiceManager(log, "READY=1", "STATUS=serving");
    log.debug("ready");
    keepMemorySmall();
    keepCompiledCode();
  } catch (error) {
    showSourcePlaces(error);
    log.fatal({ err: error }, `failed to start: ${errorMessage(error)}`);
    process.exitCode = 1;
    forceExitAfter(stopMsMax);
    return;
  }
  await stopped;
  forceExitAfter(stopMsMax);
  await notifyServiceManager(log, "STOPPING=1");
}

/** Ends a process on demand when nobody needs it. Its owner says after how long; without an owner it goes on. */
function watchIdleness(
  resources: AsyncDisposableStack,
  parts: ProcessParts,
  onIdle: () => void,
): IdleWatch | undefined {
  const idleMs = Number(process.env[idleVariable] ?? "");
  return idleMs > 0
    ? resources.use(new IdleWatch({ idleMs, isBusy: () => parts.isBusy?.() ?? false, onIdle }))
    : undefined;
}
