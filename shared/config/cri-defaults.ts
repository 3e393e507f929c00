import type { PluginTable } from "./config.ts";

/**
 * Settings of the parts of CRI.
 *
 * @source containerd v2.3.4 internal/cri/config/config.go `DefaultServerConfig`, config_unix.go `DefaultImageConfig`,
 *   `DefaultRuntimeConfig`
 */
export const criDefaults: Readonly<Record<string, PluginTable>> = {
  "io.containerd.cri.v1.images": {
    snapshotter: "overlayfs",
    disable_snapshot_annotations: true,
    discard_unpacked_layers: false,
    max_concurrent_downloads: 3,
    concurrent_layer_fetch_buffer: 0,
    image_pull_progress_timeout: "5m0s",
    image_pull_with_sync_fs: false,
    stats_collect_period: 10,
    use_local_image_pull: false,
    pinned_images: { sandbox: "registry.k8s.io/pause:3.10.2" },
    runtime_platforms: {},
    registry: { config_path: "", mirrors: {}, configs: {}, auths: {}, headers: {} },
    image_decryption: { key_model: "node" },
  },
  "io.containerd.cri.v1.runtime": {
    enable_selinux: false,
    selinux_category_range: 1024,
    max_container_log_line_size: 16384,
    disable_apparmor: false,
    restrict_oom_score_adj: false,
    disable_proc_mount: false,
    unset_seccomp_profile: "",
    tolerate_missing_hugetlb_controller: true,
    disable_hugetlb_controller: true,
    device_ownership_from_security_context: false,
    ignore_image_defined_volumes: false,
    netns_mounts_under_state_dir: false,
    enable_unprivileged_ports: true,
    enable_unprivileged_icmp: true,
    enable_cdi: true,
    cdi_spec_dirs: ["/etc/cdi", "/var/run/cdi"],
    drain_exec_sync_io_timeout: "0s",
    ignore_deprecation_warnings: [],
    stats_collect_period: "",
    stats_retention_period: "",
    enable_criu: true,
    enable_experimental_restore_via_create: false,
    containerd: {
      default_runtime_name: "runc",
      ignore_blockio_not_enabled_errors: false,
      ignore_rdt_not_enabled_errors: false,
      runtimes: {
        runc: {
          runtime_type: "io.containerd.runc.v2",
          runtime_path: "",
          pod_annotations: [],
          container_annotations: [],
          privileged_without_host_devices: false,
          privileged_without_host_devices_all_devices_allowed: false,
          cgroup_writable: false,
          base_runtime_spec: "",
          cni_conf_dir: "",
          cni_max_conf_num: 0,
          snapshotter: "",
          sandboxer: "podsandbox",
          io_type: "",
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
    },
    cni: {
      bin_dir: "",
      bin_dirs: ["/opt/cni/bin"],
      conf_dir: "/etc/cni/net.d",
      max_conf_num: 1,
      setup_serially: false,
      conf_template: "",
      ip_pref: "",
      use_internal_loopback: false,
    },
  },
  "io.containerd.grpc.v1.cri": {
    disable_tcp_service: true,
    stream_server_address: "127.0.0.1",
    stream_server_port: "0",
    stream_idle_timeout: "4h0m0s",
    enable_tls_streaming: false,
    x509_key_pair_streaming: { tls_cert_file: "", tls_key_file: "" },
  },
};

/** Tables in the settings of CRI whose keys are names that the user chooses, such as those of runtimes. */
export const criNameTables: readonly (readonly string[])[] = [
  ["io.containerd.cri.v1.images", "pinned_images"],
  ["io.containerd.cri.v1.images", "runtime_platforms"],
  ["io.containerd.cri.v1.images", "registry"],
  ["io.containerd.cri.v1.runtime", "containerd", "runtimes"],
];
