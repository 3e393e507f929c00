import type { Capability } from "#linux/capabilities.ts";
import type { ProcessName } from "./process-name.ts";
import { onDemandProcesses } from "./startup.ts";

/** What a process may do; `README.md` says how each part is enforced. */
export interface ProcessRights {
  /** Who it runs as: root, or a user of its own without any other right. */
  readonly user: "root" | "flotilla-content" | "flotilla-events" | "flotilla-metadata" | "flotilla-transfer";
  /** Capabilities that it needs, or `all` for a process whose children need them. @source capabilities(7) */
  readonly capabilities: "all" | readonly Capability[];
  /**
   * Directories that it writes, besides `<state>/NAME` with its sockets, `<root>` and `<state>` being those of the daemon. A process of whose settings
   * one names a directory writes that as well.
   */
  readonly writes: readonly string[];
  /** Those of the directories in which processes of other users read. */
  readonly shares?: readonly string[];
  /** Peers whose private sockets it connects to. */
  readonly calls: readonly ProcessName[];
  /** Whether it speaks to anything but Unix sockets. */
  readonly network: boolean;
}

/** The rights of every process. */
export const rights: Readonly<Record<ProcessName, ProcessRights>> = {
  gateway: {
    user: "root",
    // Sockets are given to users; children get users of their own and are ended; the fleet's oom_score_adj may be lowered.
    capabilities: [
      "CAP_CHOWN",
      "CAP_FOWNER",
      "CAP_DAC_OVERRIDE",
      "CAP_KILL",
      "CAP_SETGID",
      "CAP_SETUID",
      "CAP_SYS_RESOURCE",
    ],
    writes: ["<root>", "<state>"],
    calls: ["events", "metadata", "content", "snapshots", "tasks", "transfer", "cri"],
    network: false,
  },
  events: {
    user: "flotilla-events",
    capabilities: [],
    writes: ["<root>/io.flotilla.events.v1.nats"],
    calls: [],
    network: true,
  },
  metadata: {
    user: "flotilla-metadata",
    capabilities: [],
    writes: ["<root>/io.containerd.metadata.v1.bolt"],
    calls: ["events", "content", "snapshots"],
    network: false,
  },
  content: {
    user: "flotilla-content",
    capabilities: [],
    writes: ["<root>/io.containerd.content.v1.content"],
    shares: ["<root>/io.containerd.content.v1.content"],
    calls: ["metadata"],
    network: false,
  },
  snapshots: {
    user: "root",
    // Layers hold files of every owner, mode, device and attribute, and are mounted.
    capabilities: [
      "CAP_CHOWN",
      "CAP_DAC_OVERRIDE",
      "CAP_FOWNER",
      "CAP_FSETID",
      // The setting `set_immutable` of the EROFS snapshotter.
      "CAP_LINUX_IMMUTABLE",
      "CAP_MKNOD",
      "CAP_SETFCAP",
      // User namespaces of mounts whose ids are mapped.
      "CAP_SETGID",
      "CAP_SETUID",
      "CAP_SYS_ADMIN",
    ],
    writes: [
      "<root>/io.containerd.snapshotter.v1.aufs",
      "<root>/io.containerd.snapshotter.v1.blockfile",
      "<root>/io.containerd.snapshotter.v1.btrfs",
      "<root>/io.containerd.snapshotter.v1.devmapper",
      "<root>/io.containerd.snapshotter.v1.erofs",
      "<root>/io.containerd.snapshotter.v1.native",
      "<root>/io.containerd.snapshotter.v1.overlayfs",
      "<root>/io.containerd.snapshotter.v1.zfs",
      "<root>/tmpmounts/diff",
      "<state>/io.containerd.mount-manager.v1.bolt",
    ],
    calls: ["metadata", "content"],
    network: false,
  },
  tasks: {
    user: "root",
    capabilities: "all",
    writes: ["<root>/io.containerd.runtime.v2.task", "<state>/io.containerd.runtime.v2.task", "/run/containerd"],
    calls: ["metadata", "content", "events", "snapshots"],
    network: false,
  },
  transfer: {
    user: "flotilla-transfer",
    capabilities: [],
    writes: [],
    calls: ["metadata", "content", "snapshots"],
    network: true,
  },
  cri: {
    user: "root",
    // What CNI programs need is theirs to say, and commands are run in containers by whoever may.
    capabilities: "all",
    writes: [
      "<root>/io.containerd.grpc.v1.cri",
      "<state>/io.containerd.grpc.v1.cri",
      "/var/run/netns",
      "/var/lib/cni",
      "/var/log/pods",
      "/var/run/nri",
    ],
    calls: ["metadata", "content", "snapshots", "tasks", "events", "transfer"],
    network: true,
  },
};

/**
 * The processes that may connect to a socket of another: to the public one the gateway alone, to the private one those that call it; to that of the
 * gateway, which starts what runs on demand, those that call such a process. The gateway is always among them, since its user runs the program
 * whose commands ask processes.
 */
export function callersOf(process: ProcessName, side: "public" | "private"): ProcessName[] {
  const called = process === "gateway" ? [...onDemandProcesses] : [process];
  return side === "public"
    ? ["gateway"]
    : (Object.keys(rights) as ProcessName[]).filter((caller) =>
        called.some((name) => rights[caller].calls.includes(name)),
      );
}
