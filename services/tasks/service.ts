import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { systemErrorCode } from "#base/errors.ts";
import { timerMsMax } from "#base/limits.ts";
import { type FleetConfig, pluginRoot, pluginState, timeoutMs } from "#config/config.ts";
import { pluginTable } from "#config/defaults.ts";
import { pluginUri } from "#config/manifest.ts";
import { changesOf } from "#fleet/calls/open-changes.ts";
import { ProxyLinks } from "#fleet/proxies/proxy-links.ts";
import { RemovalMarkReader } from "#fleet/removal-mark.ts";
import type { ProcessContext, ProcessParts } from "#fleet/run.ts";
import { daemonVersion } from "#fleet/version.ts";
import { connectBlobs } from "./blobs.ts";
import { TaskTable } from "./domain/task-table.ts";
import { openEventLog } from "./event-log.ts";
import { type Task, TaskLifecycle } from "./lifecycle.ts";
import { connectTaskMounts } from "./managed-mounts.ts";
import { CgroupMonitor } from "./monitors/cgroups/cgroup-monitor.ts";
import { RestartMonitor } from "./monitors/restart/restart-monitor.ts";
import { connectRestartRecords } from "./monitors/restart/restart-records.ts";
import { offerOptionalPrograms } from "./optional-programs.ts";
import {
  optionalProgramsPlugin,
  podSandboxPlugin,
  restartPlugin,
  runtimePlugin,
  sandboxGrpcPlugin,
  shimPlugin,
  shimSandboxPlugin,
  tasksGrpcPlugin,
  tasksServicePlugin,
} from "./plugins.ts";
import { reconnectTasks } from "./reconnect.ts";
import { connectRecords } from "./records.ts";
import { connectRootMounts } from "./root-mounts.ts";
import { createTask } from "./rpc/create.ts";
import { sandboxControllerService } from "./rpc/sandboxes.ts";
import { tasksService } from "./rpc/tasks.ts";
import { inspectRuntime } from "./runtimes/shim/runtime-info.ts";
import { ShimRuntime } from "./runtimes/shim/shim-runtime.ts";
import { PodSandboxer } from "./sandboxes/pod-sandboxer.ts";
import { ProxiedSandboxer } from "./sandboxes/proxied-sandboxer.ts";
import type { Sandboxer } from "./sandboxes/sandboxer.ts";
import { ShimSandboxer } from "./sandboxes/shim-sandboxer.ts";
import { Bundles } from "./shims/bundles.ts";
import { ShimManager } from "./shims/shim-manager.ts";
import { openSocketDirectory } from "./shims/socket-directory.ts";

/** Time between two looks for containers to start again where none is set. @source containerd v2.3.4 plugins/restart/monitor.go `run` */
const restartIntervalMs = 10_000;

function restartIntervalOf(config: FleetConfig): number {
  return pluginTable(config, pluginUri(restartPlugin)).durationMs("interval") || restartIntervalMs;
}

/** Puts the tasks process together: shims on this machine, records in metadata, bytes in content, the rest of events in events. */
export function composeTasks(context: ProcessContext): ProcessParts {
  const { config, log, stopping, resources, deprecations } = context;
  const directory = pluginUri(runtimePlugin);
  const bundles = new Bundles({ state: pluginState(config, directory), root: pluginRoot(config, directory) });
  const metadata = context.connect("metadata");
  const records = connectRecords(metadata, resources.use(new RemovalMarkReader(config.state, "container")));
  const blobs = connectBlobs(context.connect("content"));
  const snapshots = context.connect("snapshots");
  const managedMounts = connectTaskMounts(snapshots);
  const events = openEventLog(context.connect("events"), { log, stopping });
  const table = new TaskTable<Task>();
  let lifecycle: TaskLifecycle | undefined;
  let restarts: RestartMonitor | undefined;
  let shims: ShimManager | undefined;
  let shimSandboxes: ShimSandboxer | undefined;
  const mounts = connectRootMounts(snapshots);
  // Read each time, since a reload may change them.
  const timeouts = {
    get loadMs() {
      return waitMsOf(config, "shim.load");
    },
    get cleanupMs() {
      return waitMsOf(config, "shim.cleanup");
    },
    get shutdownMs() {
      return waitMsOf(config, "shim.shutdown");
    },
    get stateMs() {
      return waitMsOf(config, "task.state");
    },
    get metricsMs() {
      return waitMsOf(config, "metrics.shimstats");
    },
  };

  const openChanges = changesOf(context, "tasks");

  const cgroups = new CgroupMonitor({
    config,
    log,
    timeoutMs: waitMsOf(config, "metrics.shimstats"),
    tasks: () => table.all(),
  });
  return {
    measure: () => cgroups.families(),
    onReady: () => {
      const running = restarts?.run();
      resources.defer(() => running);
    },
    plugins: [
      {
        manifest: optionalProgramsPlugin,
        init: async () => {
          const { path } = await offerOptionalPrograms(
            pluginTable(config, pluginUri(optionalProgramsPlugin)).string("path"),
            process.env,
          );
          return { exports: { path } };
        },
      },
      {
        manifest: shimPlugin,
        init: async () => {
          const settings = pluginTable(config, pluginUri(shimPlugin));
          const socketDirectory = await openSocketDirectory(settings.string("socket_dir"), {
            uid: process.geteuid?.() ?? 0,
            runtimeDirectory: process.env["XDG_RUNTIME_DIR"] ?? "",
          });
          shims = new ShimManager({
            daemon: {
              grpcAddress: config.grpc.address,
              ttrpcAddress: config.ttrpc.address,
              daemonBinary: launcherPath(),
              daemonVersion: daemonVersion(),
              socketDirectory,
              get environment() {
                return pluginTable(config, pluginUri(shimPlugin)).strings("env");
              },
              get logLevel() {
                return config.log.level;
              },
            },
            timeouts,
            log,
            observer: context.tracer?.observer,
          });
          return undefined;
        },
      },
      {
        manifest: runtimePlugin,
        init: async () => {
          if (shims === undefined) {
            throw new Error(`plugin ${pluginUri(shimPlugin)} is not loaded`);
          }
          const sandboxes = new ShimSandboxer({
            shims,
            bundles,
            table: new TaskTable(),
            log,
            whenBuried: (sandbox, signal) => table.whenSettled(sandbox, signal),
          });
          shimSandboxes = sandboxes;
          resources.defer(() => sandboxes.letGo());
          const runtime = new ShimRuntime({
            shims,
            timeouts,
            log,
            hasSandbox: async (namespace, id) => {
              const sandboxer = await records.findSandboxer(namespace, id);
              // A sandbox of a pause container is its task, and is none without it.
              return sandboxer !== undefined && sandboxer !== podSandboxPlugin.id;
            },
          });
          await bundles.prepare();
          lifecycle = new TaskLifecycle({ runtime, bundles, mounts: managedMounts, table, events, log });
          const started = lifecycle;
          resources.defer(() => started.stop());
          const adoptSandbox = sandboxes.adopt.bind(sandboxes);
          await reconnectTasks({ runtime, bundles, lifecycle, adoptSandbox, log });
          const manager = shims;
          return { inspect: (options) => inspectRuntime(manager, options) };
        },
      },
      cgroups.definition,
      {
        manifest: tasksServicePlugin,
        init: () => {
          const settings = pluginTable(config, pluginUri(tasksServicePlugin));
          const key = "rdt_config_file";
          if (settings.string(key) !== "") {
            log.warn({ key }, "this setting has no effect");
          }
          return undefined;
        },
      },
      {
        manifest: restartPlugin,
        init: () => {
          if (lifecycle === undefined) {
            throw new Error(`plugin ${directory} is not loaded`);
          }
          const parts = { lifecycle, records, blobs, deprecations };
          const monitor = new RestartMonitor({
            intervalMs: restartIntervalOf(config),
            records: connectRestartRecords(metadata, mounts),
            table,
            lifecycle,
            createTask: (namespace, request, signal) => createTask(parts, { namespace, request, signal }),
            log,
            stopping,
          });
          restarts = monitor;
          context.onReload((next) => {
            const intervalMs = restartIntervalOf(next);
            return () => monitor.setInterval(intervalMs);
          });
          return undefined;
        },
      },
      {
        manifest: tasksGrpcPlugin,
        init: () => {
          if (lifecycle === undefined) {
            throw new Error(`plugin ${directory} is not loaded`);
          }
          const changes = openChanges();
          return {
            services: [tasksService({ table, lifecycle, records, blobs, deprecations, log, timeouts, changes })],
          };
        },
      },
      {
        manifest: sandboxGrpcPlugin,
        init: () => {
          if (lifecycle === undefined || shimSandboxes === undefined) {
            throw new Error(`plugin ${directory} is not loaded`);
          }
          const parts = { lifecycle, records, blobs, deprecations };
          const podSandboxes = new PodSandboxer({
            table,
            lifecycle,
            records,
            mounts,
            createTask: (wanted) => createTask(parts, wanted),
            stateTimeoutMs: waitMsOf(config, "task.state"),
          });
          const sandboxers = new Map<string, Sandboxer>();
          for (const [manifest, sandboxer] of [
            [shimSandboxPlugin, shimSandboxes],
            [podSandboxPlugin, podSandboxes],
          ] as const) {
            if (!config.disabledPlugins.includes(pluginUri(manifest))) {
              sandboxers.set(manifest.id, sandboxer);
            }
          }
          const links = new ProxyLinks(context);
          for (const plugin of context.proxies.filter(({ kind }) => kind === "sandbox")) {
            sandboxers.set(plugin.name, new ProxiedSandboxer(plugin.name, links.get(plugin)));
          }
          return { services: [sandboxControllerService({ sandboxers, events, changes: openChanges() })] };
        },
      },
    ],
  };
}

/** A timeout of the configuration, in milliseconds, as a timer takes it. */
function waitMsOf(config: FleetConfig, name: string): number {
  return Math.min(timeoutMs(config, `io.containerd.timeout.${name}`) || timerMsMax, timerMsMax);
}

/** The program that is the daemon, which shims are told of. Links are resolved, since shims are looked for beside it. */
function launcherPath(): string {
  const path = fileURLToPath(new URL("../../deploy/flotilla", import.meta.url));
  try {
    return realpathSync(path);
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") {
      return path;
    }
    throw error;
  }
}
