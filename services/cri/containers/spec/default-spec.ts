import type { OciMount, OciNamespace, OciSpec } from "./oci-spec.ts";

/** @source opencontainers/runtime-spec v1.3.0 specs-go/version.go */
const ociVersion = "1.3.0";

/** The PATH of a process whose image and configuration set none. @source containerd v2.3.4 pkg/oci/spec.go `defaultUnixEnv` */
export const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/** What a container may do that asks for nothing. @source containerd v2.3.4 pkg/oci/spec.go `defaultUnixCaps` */
export const defaultCapabilities: readonly string[] = [
  "CAP_CHOWN",
  "CAP_DAC_OVERRIDE",
  "CAP_FSETID",
  "CAP_FOWNER",
  "CAP_MKNOD",
  "CAP_NET_RAW",
  "CAP_SETGID",
  "CAP_SETUID",
  "CAP_SETFCAP",
  "CAP_SETPCAP",
  "CAP_NET_BIND_SERVICE",
  "CAP_SYS_CHROOT",
  "CAP_KILL",
  "CAP_AUDIT_WRITE",
];

const namespaceTypes: readonly OciNamespace["type"][] = ["pid", "ipc", "uts", "mount", "network"];

/**
 * The specification that every container starts from where its runtime names none.
 *
 * @param place.namespace - Of containerd; makes the cgroup of whoever is given none.
 * @source containerd v2.3.4 pkg/oci/spec.go `populateDefaultUnixSpec`
 */
export function defaultSpec({ namespace, id }: { readonly namespace: string; readonly id: string }): OciSpec {
  return {
    ociVersion,
    root: { path: "rootfs" },
    process: {
      cwd: "/",
      noNewPrivileges: true,
      user: { uid: 0, gid: 0 },
      capabilities: {
        bounding: [...defaultCapabilities],
        permitted: [...defaultCapabilities],
        effective: [...defaultCapabilities],
      },
      rlimits: [{ type: "RLIMIT_NOFILE", hard: 1024, soft: 1024 }],
    },
    mounts: defaultMounts(),
    linux: {
      maskedPaths: [
        "/proc/acpi",
        "/proc/asound",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
        "/proc/scsi",
      ],
      readonlyPaths: ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
      cgroupsPath: namespacedCgroup({ namespace, id }),
      resources: { devices: [{ allow: false, access: "rwm" }] },
      namespaces: namespaceTypes.map((type) => ({ type })),
    },
  };
}

/** The cgroup of a container that is given none. @source containerd v2.3.4 pkg/oci/spec_opts.go `WithNamespacedCgroup` */
export function namespacedCgroup({ namespace, id }: { readonly namespace: string; readonly id: string }): string {
  return `/${namespace}/${id}`;
}

/** @source containerd v2.3.4 pkg/oci/mounts.go `defaultMounts` */
function defaultMounts(): OciMount[] {
  const virtual = ["nosuid", "noexec", "nodev"];
  const temporary = ["nosuid", "strictatime", "mode=755", "size=65536k"];
  return [
    { destination: "/proc", type: "proc", source: "proc", options: [...virtual] },
    { destination: "/dev", type: "tmpfs", source: "tmpfs", options: [...temporary] },
    {
      destination: "/dev/pts",
      type: "devpts",
      source: "devpts",
      options: ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    { destination: "/dev/shm", type: "tmpfs", source: "shm", options: [...virtual, "mode=1777", "size=65536k"] },
    { destination: "/dev/mqueue", type: "mqueue", source: "mqueue", options: [...virtual] },
    { destination: "/sys", type: "sysfs", source: "sysfs", options: [...virtual, "ro"] },
    { destination: "/run", type: "tmpfs", source: "tmpfs", options: [...temporary] },
  ];
}
