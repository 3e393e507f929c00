import { hostPlatformName } from "#config/host-platform.ts";
import { type TomlTable, typeName } from "#config/toml-table.ts";
import type { PluginManifest } from "#fleet/manifest.ts";

const eventType = "io.containerd.event.v1";
const metadataType = "io.containerd.metadata.v1";
const monitorType = "io.containerd.monitor.task.v1";
const runtimeType = "io.containerd.runtime.v2";
const serviceType = "io.containerd.service.v1";
const shimType = "io.containerd.shim.v1";
const podSandboxType = "io.containerd.podsandbox.controller.v1";
const sandboxControllerType = "io.containerd.sandbox.controller.v1";
const warningType = "io.containerd.warning.v1";

/** Where a container's output may go. @source containerd v2.3.4 core/runtime/v2/task_manager.go `supportedLogURISchemes` */
const logUriSchemes = ["fifo", "binary", "binary-v2", "file"];

/** Programs and libraries that come from images, for what this process starts. @source containerd v2.3.4 plugins/services/opt/service.go */
export const optionalProgramsPlugin = {
  type: "io.containerd.internal.v1",
  id: "opt",
  settings: {
    path: {
      type: "string",
      default: "/opt/containerd",
      about:
        "Directory that programs and libraries of images are installed into; shims and runtimes are looked for there first.",
    },
  },
} as const satisfies PluginManifest;

/** Starts and finds shims. @source containerd v2.3.4 core/runtime/v2/shim_manager.go */
export const shimPlugin = {
  type: shimType,
  id: "manager",
  requires: [eventType, metadataType],
  reloads: ["env"],
  settings: {
    env: { type: "strings", default: [], about: "Added to the environment of every shim, each as NAME=value." },
    socket_dir: {
      type: "string",
      default: "",
      about: "Directory for the sockets of shims; the usual one of the user where it is empty.",
    },
  },
  migrate: moveSchedCore,
} as const satisfies PluginManifest;

/** The runtimes. @source containerd v2.3.4 core/runtime/v2/task_manager.go */
export const runtimePlugin = {
  type: runtimeType,
  id: "task",
  requires: [shimType, "io.containerd.mount-manager.v1", warningType],
  exports: { "log-uri-schemes": logUriSchemes.join(",") },
  platformDependent: true,
  settings: {
    platforms: {
      type: "strings",
      default: [hostPlatformName()],
      defaultText: "the machine's",
      about: "Platforms whose containers run here; accepted and without effect, the machine's own run.",
    },
  },
} as const satisfies PluginManifest;

/** Figures of containers by their cgroups. @source containerd v2.3.4 core/metrics/cgroups/cgroups.go */
export const cgroupsPlugin = {
  type: monitorType,
  id: "cgroups",
  formerly: "io.containerd.monitor.v1.cgroups",
  requires: [eventType],
  platformDependent: true,
  reloads: ["no_prometheus"],
  settings: {
    no_prometheus: {
      type: "boolean",
      default: false,
      about: "Whether figures of containers are kept from Prometheus.",
    },
  },
} as const satisfies PluginManifest;

/** What clients know the tasks by within containerd. @source containerd v2.3.4 plugins/services/tasks/local.go `Config` */
export const tasksServicePlugin = {
  type: serviceType,
  id: "tasks-service",
  requires: [eventType, runtimeType, metadataType, monitorType, warningType],
  settings: {
    blockio_config_file: {
      type: "string",
      default: "",
      about: "File of classes of block I/O, for containers of pods.",
    },
    rdt_config_file: {
      type: "string",
      default: "",
      about: "File of classes of Intel RDT; without effect, and warned of.",
    },
  },
} as const satisfies PluginManifest;

/** Starts containers again whose clients want them to run. @source containerd v2.3.4 plugins/restart/monitor.go */
export const restartPlugin = {
  type: "io.containerd.monitor.container.v1",
  id: "restart",
  formerly: "io.containerd.internal.v1.restart",
  requires: [eventType, serviceType],
  capabilities: ["no", "always", "on-failure", "unless-stopped"],
  reloads: ["interval"],
  settings: {
    interval: {
      type: "duration",
      default: "10s",
      about: "Time between two looks for containers to start again; 10s where it is zero.",
    },
  },
} as const satisfies PluginManifest;

/** Tasks as clients call them. */
export const tasksGrpcPlugin = {
  type: "io.containerd.grpc.v1",
  id: "tasks",
  requires: [serviceType],
} as const satisfies PluginManifest;

/** Sandboxes in shims that know them. @source containerd v2.3.4 plugins/sandbox/controller.go */
export const shimSandboxPlugin = {
  type: sandboxControllerType,
  id: "shim",
  requires: [shimType, eventType, "io.containerd.sandbox.store.v1"],
} as const satisfies PluginManifest;

/** Sandboxes of pause containers. @source containerd v2.3.4 internal/cri/server/podsandbox/controller.go */
export const podSandboxPlugin = {
  type: podSandboxType,
  id: "podsandbox",
  requires: [eventType, "io.containerd.lease.v1", "io.containerd.sandbox.store.v1", serviceType, warningType],
} as const satisfies PluginManifest;

/** Sandboxes as clients call them. */
export const sandboxGrpcPlugin = {
  type: "io.containerd.grpc.v1",
  id: "sandbox-controllers",
  requires: [podSandboxType, sandboxControllerType, eventType],
} as const satisfies PluginManifest;

/** The plugins of this process, in the order of their initialisation. */
export const tasksPlugins: readonly PluginManifest[] = [
  optionalProgramsPlugin,
  shimPlugin,
  runtimePlugin,
  cgroupsPlugin,
  tasksServicePlugin,
  restartPlugin,
  tasksGrpcPlugin,
  shimSandboxPlugin,
  podSandboxPlugin,
  sandboxGrpcPlugin,
];

/** @source containerd v2.3.4 core/runtime/v2/shim_manager.go `ConfigMigration` */
function moveSchedCore(tables: Record<string, TomlTable>, warn: (warning: string) => void): void {
  const task = tables[`${runtimeType}.task`];
  if (task === undefined || !Object.hasOwn(task, "sched_core")) {
    return;
  }
  const { sched_core: schedCore, ...rest } = task;
  tables[`${runtimeType}.task`] = rest;
  if (schedCore === true) {
    tables[`${shimType}.manager`] = { ...tables[`${shimType}.manager`], env: ["SCHED_CORE=1"] };
  } else if (schedCore !== false) {
    warn(`skipping migration for non-boolean 'sched_core' value: ${typeName(schedCore)}`);
  }
}
