import type { Setting, Settings } from "#config/manifest.ts";
import type { PluginManifest } from "#fleet/manifest.ts";
import { deprecatedRuntimeSettings } from "./deprecated-settings.ts";

/** @source containerd v2.3.4 internal/cri/config/config.go `Runtime` */
const runtimeSettings: Settings = {
  runtime_type: { type: "string", default: "", about: "Type of the runtime, such as io.containerd.runc.v2." },
  runtime_path: {
    type: "string",
    default: "",
    about: "Path of the shim, where its name does not follow from the type.",
  },
  pod_annotations: { type: "strings", default: [], about: "Annotations of pods that the runtime is told of." },
  container_annotations: {
    type: "strings",
    default: [],
    about: "Annotations of containers that the runtime is told of.",
  },
  privileged_without_host_devices: {
    type: "boolean",
    default: false,
    about: "Whether privileged containers do not get the devices of the host.",
  },
  privileged_without_host_devices_all_devices_allowed: {
    type: "boolean",
    default: false,
    about: "Whether they may still make any device.",
  },
  cgroup_writable: { type: "boolean", default: false, about: "Whether containers may change their own cgroup." },
  base_runtime_spec: { type: "string", default: "", about: "File with the OCI specification to start from." },
  cni_conf_dir: { type: "string", default: "", about: "Directory of CNI configurations for this runtime's pods." },
  cni_max_conf_num: { type: "integer", default: 0, about: "CNI configurations that are read there." },
  snapshotter: { type: "string", default: "", about: "Snapshotter of this runtime, where it differs." },
  sandboxer: { type: "string", default: "", about: "Who makes its pods: podsandbox or shim." },
  io_type: { type: "string", default: "", about: "How its shims carry output: fifo or streaming." },
  options: {
    type: "names",
    each: { type: "any", about: "As the runtime understands it." },
    about: "Options of the runtime itself, by the names of its options message.",
  },
};

const containerdSettings: Setting = {
  type: "table",
  settings: {
    default_runtime_name: { type: "string", default: "runc", about: "Runtime of pods that name none." },
    ignore_blockio_not_enabled_errors: {
      type: "boolean",
      default: false,
      about: "Whether pods that ask for a class of block I/O run where there is none.",
    },
    ignore_rdt_not_enabled_errors: {
      type: "boolean",
      default: false,
      about: "Whether pods that ask for a class of RDT run where there is none.",
    },
    runtimes: {
      type: "names",
      default: {
        runc: {
          runtime_type: "io.containerd.runc.v2",
          sandboxer: "podsandbox",
          options: {
            BinaryName: "",
            CriuImagePath: "",
            CriuWorkPath: "",
            IoGid: 0,
            IoUid: 0,
            NoNewKeyring: false,
            Root: "",
            ShimCgroup: "",
            SystemdCgroup: false,
          },
        },
      },
      each: { type: "table", settings: runtimeSettings, about: "One runtime." },
      about: "Runtimes, by the name of their handler.",
    },
  },
  about: "Runtimes.",
};

/** @source containerd v2.3.4 internal/cri/config/config.go `CniConfig` */
const networkSettings: Setting = {
  type: "table",
  settings: {
    bin_dir: { type: "string", default: "", about: "Directory of CNI programs; bin_dirs is the newer way." },
    bin_dirs: { type: "strings", default: ["/opt/cni/bin"], about: "Directories of CNI programs." },
    conf_dir: { type: "string", default: "/etc/cni/net.d", about: "Directory of CNI configurations." },
    max_conf_num: { type: "integer", default: 1, about: "Configurations that are read there; 0 for all." },
    setup_serially: { type: "boolean", default: false, about: "Whether networks are set up one after the other." },
    conf_template: { type: "string", default: "", about: "Template that a configuration is made of." },
    ip_pref: { type: "string", default: "", about: "Which address a pod is known by: ipv4, ipv6 or cni." },
    use_internal_loopback: {
      type: "boolean",
      default: false,
      about: "Whether the loopback device is set up without a CNI program.",
    },
  },
  about: "Networks of pods.",
};

/** Pods and their containers. @source containerd v2.3.4 internal/cri/config/config.go `RuntimeConfig`, config_unix.go `DefaultRuntimeConfig` */
export const runtimePlugin = {
  type: "io.containerd.cri.v1",
  id: "runtime",
  reloads: [
    "max_container_log_line_size",
    "disable_proc_mount",
    "unset_seccomp_profile",
    "device_ownership_from_security_context",
    "ignore_image_defined_volumes",
    "enable_unprivileged_ports",
    "enable_unprivileged_icmp",
    "ignore_deprecation_warnings",
    "stats_collect_period",
    "stats_retention_period",
    "containerd.default_runtime_name",
    "containerd.runtimes",
    "cni",
  ],
  settings: {
    enable_selinux: { type: "boolean", default: false, about: "Whether containers get labels of SELinux." },
    selinux_category_range: { type: "integer", default: 1024, about: "Categories of SELinux to choose from." },
    max_container_log_line_size: {
      type: "integer",
      default: 16384,
      about: "Longest line of a container's log, in bytes; longer ones are split.",
    },
    disable_apparmor: { type: "boolean", default: false, about: "Whether AppArmor is left alone." },
    restrict_oom_score_adj: {
      type: "boolean",
      default: false,
      about: "Whether containers are not killed later than the daemon when memory is short.",
    },
    disable_proc_mount: { type: "boolean", default: false, about: "Whether pods may not ask for an unmasked /proc." },
    unset_seccomp_profile: { type: "string", default: "", about: "Seccomp profile of containers that name none." },
    tolerate_missing_hugetlb_controller: {
      type: "boolean",
      default: true,
      about: "Whether limits on huge pages are passed over where the cgroup controller is missing.",
    },
    disable_hugetlb_controller: { type: "boolean", default: true, about: "Whether they are always passed over." },
    device_ownership_from_security_context: {
      type: "boolean",
      default: false,
      about: "Whether devices belong to the user and group of the container.",
    },
    ignore_image_defined_volumes: {
      type: "boolean",
      default: false,
      about: "Whether volumes that an image declares are not made.",
    },
    netns_mounts_under_state_dir: {
      type: "boolean",
      default: false,
      about: "Whether network namespaces are mounted below the state directory instead of /var/run/netns.",
    },
    enable_unprivileged_ports: {
      type: "boolean",
      default: true,
      about: "Whether containers may bind ports below 1024 without a capability.",
    },
    enable_unprivileged_icmp: {
      type: "boolean",
      default: true,
      about: "Whether containers may ping without a capability.",
    },
    enable_cdi: { type: "boolean", default: true, about: "Whether pods may ask for devices by CDI." },
    cdi_spec_dirs: { type: "strings", default: ["/etc/cdi", "/var/run/cdi"], about: "Directories of CDI files." },
    drain_exec_sync_io_timeout: {
      type: "string",
      default: "0s",
      about: "How long ExecSync waits for output after the process has ended; 0s for ever.",
    },
    ignore_deprecation_warnings: {
      type: "strings",
      default: [],
      about: "Deprecations that do not show in the status of the runtime.",
    },
    stats_collect_period: {
      type: "string",
      default: "",
      about: "Time between two measurements of processor use; one second where it is empty.",
    },
    stats_retention_period: {
      type: "string",
      default: "",
      about: "How long measurements are kept; two minutes where it is empty.",
    },
    enable_criu: { type: "boolean", default: true, about: "Whether containers may be checkpointed." },
    enable_experimental_restore_via_create: {
      type: "boolean",
      default: false,
      about: "Whether a container may be made of a checkpoint.",
    },
    containerd: containerdSettings,
    cni: networkSettings,
  },
  deprecated: deprecatedRuntimeSettings,
} as const satisfies PluginManifest;
