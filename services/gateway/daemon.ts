import { aborted } from "#base/aborted.ts";
import { ErrorKind, failure } from "#base/errors.ts";
import type { FleetConfig } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import type { DaemonFlags } from "#config/flags.ts";
import { loadConfig } from "#config/load.ts";
import { pluginUri } from "#config/manifest.ts";
import { keepCompiledCode } from "#fleet/compiled-code.ts";
import { endOnBug, forceExitAfter } from "#fleet/ends.ts";
import { type Logger, openLog } from "#fleet/log.ts";
import { keepMemorySmall } from "#fleet/memory-keeper.ts";
import type { ProcessName } from "#fleet/process-name.ts";
import { chooseContentStore } from "#fleet/proxies/content-store.ts";
import { readProxyPlugins } from "#fleet/proxies/proxy-plugins.ts";
import { Reloader } from "#fleet/reload.ts";
import { defaultRestartPolicy } from "#fleet/restart-policy.ts";
import { rights } from "#fleet/rights.ts";
import { keepWatchdog, notifyServiceManager } from "#fleet/service-manager.ts";
import { onDemandProcesses } from "#fleet/startup.ts";
import { type Member, type MemberState, Supervisor } from "#fleet/supervisor.ts";
import { leaveStartContext, wantsTraces } from "#fleet/tracing/open-tracer.ts";
import { traceFieldsOf } from "#fleet/tracing/start-spans.ts";
import { formatTraceparent } from "#fleet/tracing/trace-context.ts";
import type { FleetUsers } from "#fleet/users.ts";
import { daemonRevision, daemonVersion } from "#fleet/version.ts";
import type { Plugin } from "#gen/containerd/services/introspection/v1/introspection_pb.ts";
import { keepCapabilities, rootHasCapabilities } from "#linux/capabilities.ts";
import { setOutOfMemoryScore } from "#linux/process.ts";
import { cleanTemporaryMounts } from "#linux/temporary-mount.ts";
import { allPlugins } from "../plugins.ts";
import { joinCgroup } from "./cgroup.ts";
import { createDirectories, prepareDirectories } from "./directories.ts";
import { fleetMember, memberNames } from "./members.ts";
import { claimRoot, refuseLiveSocket } from "./ownership.ts";
import { missingRequirements } from "./plugin-graph.ts";
import type { PluginRegistry } from "./plugin-registry.ts";
import { supervisorPlugin } from "./plugins.ts";
import { reloadFleet } from "./reload.ts";
import type { ServingOptions } from "./serving.ts";
import { hasUnits } from "./units.ts";
import { chooseUsers } from "./users.ts";
import { welcomeText } from "./welcome.ts";

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
  const tracer = wantsTraces(process.env)
    ? (await import("./tracing/open-tracing.ts")).openGatewayTracer(process.env)
    : undefined;
  const traceFields = config.log.hasTraceId && tracer !== undefined ? () => traceFieldsOf(tracer) : undefined;
  const log = openLog("gateway", config.log, traceFields);
  endOnBug(log);
  [...warnings, ...readProxyPlugins(config, allPlugins).warnings].forEach((warning) => log.warn(warning));
  const { users, reason } = await chooseUsers(config);
  await createDirectories(config, users);
  if (users.areSeparate) {
    log.info("each process runs as a user of its own");
  } else if (reason !== undefined) {
    log.info({ reason }, "all processes run as one user");
  }
  const stop = watchSignals(log);
  // Until the fleet can tell its state. Where nobody listened, the signal would open a debugger to whoever can reach the loopback address.
  process.on("SIGUSR1", () => undefined);
  const load = async (): Promise<FleetConfig> => (await loadConfig(flags, allPlugins)).config;
  const reloader = new Reloader({ config, log, load, plugins: allPlugins });
  let running: RunningMembers = () => [];
  process.on("SIGHUP", () => void reloadFleet({ config, log, reloader, running: () => running() }));
  await using resources = new AsyncDisposableStack();
  try {
    const start = (tracing?: StartOptions["tracing"]): Promise<RunningMembers> =>
      startFleet({ config, flags, users, log, resources, stop, tracing });
    running = await (tracer === undefined
      ? start()
      : tracer.trace("start", {}, (context) => start({ tracer, start: context }), undefined));
    giveUpCapabilities(log);
    keepWatchdog(log);
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
  readonly users: FleetUsers;
  readonly log: Logger;
  readonly resources: AsyncDisposableStack;
  /** Aborted without an error by a signal, with one when the fleet cannot go on. */
  readonly stop: AbortController;
  readonly tracing: ServingOptions["tracing"];
}

/** The members that run at the moment. */
type RunningMembers = () => readonly ProcessName[];

async function startFleet({
  config,
  flags,
  users,
  log,
  resources,
  stop,
  tracing,
}: StartOptions): Promise<RunningMembers> {
  const successor = { log, signal: stop.signal };
  for (const address of [config.grpc.address, config.ttrpc.address]) {
    await refuseLiveSocket(address, successor);
  }
  resources.use(await claimRoot(config, successor));
  if (config.oomScore !== 0) {
    // Before anything is started, so that the whole fleet has it, and shims, which set themselves one above the process that starts them.
    const failed = setOutOfMemoryScore(config.oomScore);
    if (failed !== undefined) {
      log.error({ err: failed }, `failed to change OOM score to ${config.oomScore}`);
    }
  }
  if (config.cgroupPath !== "") {
    await joinCgroup(config.cgroupPath);
  }
  log.info({ version: daemonVersion(), revision: daemonRevision() }, "starting containerd");
  await prepareDirectories(config, "gateway", users);
  const { openPluginPrograms } = await import("./plugin-directory/plugin-programs.ts");
  const pluginPrograms = await openPluginPrograms(config, allPlugins, log);
  // Nothing works without one, and nobody could say which of two is meant.
  await chooseContentStore(config);

  /** Aborted when a process is given up. */
  const crippled = new AbortController();
  let registry: Promise<PluginRegistry> | undefined;
  const openRegistry = (): Promise<PluginRegistry> =>
    (registry ??= import("./plugin-registry.ts").then((loaded) => new loaded.PluginRegistry()));
  const record = async (...told: Parameters<PluginRegistry["record"]>): Promise<void> =>
    (await openRegistry()).record(...told);
  /** Sees to it that a process comes up which runs on demand. */
  let wake: (name: ProcessName) => void = () => undefined;
  let states: () => readonly MemberState[] = () => [];
  let running: RunningMembers = () => members;
  const settings = pluginTable(config, pluginUri(supervisorPlugin));
  const members = memberNames(config.disabledPlugins);
  if (hasUnits(config)) {
    const { describeMember, promisedPlugins } = await import("./descriptions.ts");
    // One that runs on demand is not started for the sake of a question.
    const describe = (name: (typeof members)[number]): Plugin[] | Promise<Plugin[]> =>
      onDemandProcesses.has(name) ? promisedPlugins(name, config) : describeMember(config, name, stop.signal);
    await Promise.all(members.map(async (name) => record(name, await describe(name))));
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
          crippled.abort();
          void openRegistry().then((opened) => {
            opened.fail(name as ProcessName, `process ${name} keeps dying`);
            const reasons = missingRequirements(config.requiredPlugins, opened.all());
            if (reasons[0] !== undefined) {
              stop.abort(failure(ErrorKind.Unavailable, reasons[0]));
            }
          });
        },
      }),
      (owned) => owned.stop(),
    );
    stop.signal.throwIfAborted();
    leaveStartContext(process.env, tracing?.start === undefined ? undefined : formatTraceparent(tracing.start));
    const idleMs = settings.durationMs("on_demand_idle");
    const member = (name: (typeof members)[number]): Member =>
      fleetMember(name, { config, users, flags, idleMs, onReady: record });
    // What it takes to serve is loaded while they start.
    const started = Promise.all([
      ...members.filter((name) => !onDemandProcesses.has(name)).map((name) => supervisor.start(member(name))),
      import("./serving.ts"),
    ]);
    // Awaited below, and may fail before that.
    started.catch(() => undefined);
    for (const name of members.filter((candidate) => onDemandProcesses.has(candidate))) {
      const { promisedPlugins } = await import("./descriptions.ts");
      await record(name, promisedPlugins(name, config));
      supervisor.keepReady(member(name));
    }
    await started;
    leaveStartContext(process.env, undefined);
    wake = (name) => supervisor.wake(name);
    states = () => supervisor.states();
    running = () => members.filter((name) => supervisor.pidOf(name) !== undefined);
  }

  stop.signal.throwIfAborted();
  const pluginsStopping = new AbortController();
  const plugins = pluginPrograms.run(pluginsStopping.signal);
  resources.defer(async () => {
    pluginsStopping.abort();
    await plugins;
  });
  const { serveClients } = await import("./serving.ts");
  await serveClients({
    config,
    log,
    users,
    resources,
    registry: await openRegistry(),
    crippled: crippled.signal,
    wake: (name) => wake(name),
    refused: pluginPrograms.refused,
    members: () => states(),
    tracing,
  });
  return running;
}

/**
 * Gives up what only the start has needed. Programs that are started from now on have all of it again, so this keeps the gateway itself from what it has
 * no business with, and not one who makes it start a program.
 */
function giveUpCapabilities(log: Logger): void {
  const { capabilities } = rights.gateway;
  if (capabilities === "all" || !rootHasCapabilities()) {
    return;
  }
  try {
    keepCapabilities(capabilities);
  } catch (error) {
    log.warn({ err: error }, "the gateway keeps the capabilities that it was started with");
  }
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
