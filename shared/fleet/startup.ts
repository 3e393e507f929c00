import type { ProcessName } from "./process-name.ts";

/** How a process of the fleet is started. */
export interface ProcessStartup {
  /**
   * When it runs: `always`, or `on-demand`, from the first call that somebody makes to it until nobody has called it for some minutes. Until then it is
   * known by the manifests of its plugins.
   */
  readonly startup: "always" | "on-demand";
  /** Flags of Node.js besides those of all processes; `flags_of` in deploy/environment.sh has the same. */
  readonly nodeFlags?: readonly string[];
  /** Processes that must be ready before this one counts as ready; the order of start and, backwards, of stop. */
  readonly after: readonly ProcessName[];
  /** Plugins by their full names, without any of which the process is not run: neither started nor routed to. */
  readonly unlessDisabled?: readonly string[];
}

/** The starts of all processes. Plain data, so that the gateway starts them before it has loaded the descriptors of what they answer. */
export const startups: Readonly<Record<ProcessName, ProcessStartup>> = {
  events: {
    startup: "always",
    // An event lives until the stream has answered. Of those that come in a burst most would outlive the young generation of the others,
    // and copying them would cost more than all else that is done for them. It is given back when the process is idle.
    nodeFlags: ["--max-semi-space-size=8"],
    after: [],
  },
  metadata: { startup: "always", after: ["events"] },
  content: { startup: "always", after: ["metadata"] },
  snapshots: {
    startup: "always",
    // Each layer thread would have its own code optimized anew, after which it is done: making files is the kernel's work. Optimizing took
    // a fifth of the time that layers did in JavaScript, and nothing became faster.
    nodeFlags: ["--no-turbofan"],
    after: ["metadata", "content"],
  },
  tasks: { startup: "always", after: ["metadata", "content", "events"] },
  transfer: { startup: "on-demand", after: ["metadata", "content", "snapshots"] },
  cri: {
    startup: "always",
    after: ["events", "metadata", "content", "snapshots", "tasks", "transfer"],
    unlessDisabled: ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime", "io.containerd.cri.v1.images"],
  },
  gateway: { startup: "always", after: ["events", "metadata", "content", "snapshots", "tasks", "transfer", "cri"] },
};

/**
 * Tells whether a process is run at all.
 *
 * @param disabledPlugins - Full names of the plugins that the configuration disables.
 */
export function isEnabled(name: ProcessName, disabledPlugins: readonly string[]): boolean {
  return startups[name].unlessDisabled?.some((plugin) => disabledPlugins.includes(plugin)) !== true;
}

/** The processes that run on demand. */
export const onDemandProcesses: ReadonlySet<ProcessName> = new Set(
  (Object.keys(startups) as ProcessName[]).filter((name) => startups[name].startup === "on-demand"),
);

/** Tells a process on demand, in milliseconds, after how long without calls it is to end. */
export const idleVariable = "FLOTILLA_IDLE_MS";
