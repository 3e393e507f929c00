import { messageBytesMax } from "#base/limits.ts";
import type { FleetConfig, PluginTable } from "./config.ts";
import { criDefaults } from "./cri-defaults.ts";
import type { ConfigDocument } from "./document.ts";
import { configVersion } from "./document.ts";
import { hostPlatformName } from "./host-platform.ts";
import { PluginSettings } from "./settings.ts";

/** Where the gRPC socket is when nothing says otherwise. @source containerd v2.3.4 defaults/defaults_linux.go `DefaultAddress` */
export const defaultAddress = "/run/containerd/containerd.sock";
/** @source containerd v2.3.4 defaults/defaults_unix.go `DefaultConfigDir` */
const configDirectory = "/etc/containerd";

/** Durations of `[timeouts]`. @source containerd v2.3.4, the calls of `timeout.Set` */
export const defaultTimeouts: Readonly<Record<string, string>> = {
  "io.containerd.timeout.bolt.open": "0s",
  "io.containerd.timeout.cri.defercleanup": "1m0s",
  "io.containerd.timeout.metrics.shimstats": "2s",
  "io.containerd.timeout.shim.cleanup": "5s",
  "io.containerd.timeout.shim.load": "5s",
  "io.containerd.timeout.shim.shutdown": "3s",
  "io.containerd.timeout.task.state": "2s",
};

/** What the configuration says where no file says anything. @source containerd v2.3.4 cmd/containerd/command/config.go `platformAgnosticDefaultConfig` */
export const defaultDocument: ConfigDocument = {
  version: configVersion,
  root: "/var/lib/containerd",
  state: "/run/containerd",
  temp: "",
  disabled_plugins: [],
  required_plugins: [],
  oom_score: 0,
  imports: [`${configDirectory}/conf.d/*.toml`],
  debug: { level: "", format: "", log_trace_id: false },
  cgroup: { path: "" },
  stream_processors: {
    "io.containerd.ocicrypt.decoder.v1.tar": decryptor("application/vnd.oci.image.layer.v1.tar"),
    "io.containerd.ocicrypt.decoder.v1.tar.gzip": decryptor("application/vnd.oci.image.layer.v1.tar+gzip"),
  },
};

function decryptor(returns: string): NonNullable<ConfigDocument["stream_processors"]>[string] {
  return {
    accepts: [`${returns}+encrypted`],
    returns,
    path: "ctd-decoder",
    args: ["--decryption-keys-path", `${configDirectory}/ocicrypt/keys`],
    env: [`OCICRYPT_KEYPROVIDER_CONFIG=${configDirectory}/ocicrypt/ocicrypt_keyprovider.conf`],
  };
}

/**
 * The table of every plugin that has settings, with the value of each setting where no file says anything. A setting that is not here is
 * unknown. Durations are written as Go does.
 *
 * @source containerd v2.3.4, the `Config` of each `plugin.Registration`
 */
export const pluginDefaults: Readonly<Record<string, PluginTable>> = {
  ...criDefaults,
  "io.containerd.differ.v1.erofs": { mkfs_options: [], enable_tar_index: false, enable_dmverity: false },
  "io.containerd.gc.v1.scheduler": {
    pause_threshold: 0.02,
    deletion_threshold: 0,
    mutation_threshold: 100,
    schedule_delay: "0s",
    startup_delay: "100ms",
  },
  "io.containerd.image-verifier.v1.bindir": {
    bin_dir: "/opt/containerd/image-verifier/bin",
    max_verifiers: 10,
    per_verifier_timeout: "10s",
  },
  "io.containerd.internal.v1.opt": { path: "/opt/containerd" },
  "io.containerd.internal.v1.tracing": {},
  "io.containerd.metadata.v1.bolt": { content_sharing_policy: "shared", no_sync: false },
  "io.containerd.metrics.v1.grpc-prometheus": { grpc_histogram: false },
  "io.containerd.monitor.container.v1.restart": { interval: "10s" },
  "io.containerd.monitor.task.v1.cgroups": { no_prometheus: false },
  "io.containerd.mount-handler.v1.erofs": {},
  "io.containerd.nri.v1.nri": {
    disable: false,
    socket_path: "/var/run/nri/nri.sock",
    plugin_path: "/opt/nri/plugins",
    plugin_config_path: "/etc/nri/conf.d",
    plugin_registration_timeout: "5s",
    plugin_request_timeout: "2s",
    disable_connections: false,
    default_validator: {
      enable: false,
      reject_oci_hook_adjustment: false,
      reject_runtime_default_seccomp_adjustment: false,
      reject_unconfined_seccomp_adjustment: false,
      reject_custom_seccomp_adjustment: false,
      reject_namespace_adjustment: false,
      reject_sysctl_adjustment: false,
      required_plugins: [],
      tolerate_missing_plugins_annotation: "",
    },
  },
  "io.containerd.runtime.v2.task": { platforms: [hostPlatformName()] },
  "io.containerd.server.v1.debug": { address: "", uid: 0, gid: 0 },
  "io.containerd.server.v1.grpc": {
    address: defaultAddress,
    uid: process.geteuid?.() ?? 0,
    gid: process.getegid?.() ?? 0,
    max_recv_message_size: messageBytesMax,
    max_send_message_size: messageBytesMax,
  },
  "io.containerd.server.v1.grpc-tcp": {
    address: "",
    tls_ca: "",
    tls_cert: "",
    tls_key: "",
    tls_common_name: "",
    max_recv_message_size: messageBytesMax,
    max_send_message_size: messageBytesMax,
  },
  "io.containerd.server.v1.metrics": { address: "" },
  "io.containerd.server.v1.ttrpc": {
    address: `${defaultAddress}.ttrpc`,
    uid: process.geteuid?.() ?? 0,
    gid: process.getegid?.() ?? 0,
  },
  "io.containerd.service.v1.diff-service": { default: ["walking"], sync_fs: false },
  "io.containerd.service.v1.tasks-service": { blockio_config_file: "", rdt_config_file: "" },
  "io.containerd.shim.v1.manager": { env: [], socket_dir: "" },
  "io.containerd.snapshotter.v1.blockfile": {
    root_path: "",
    scratch_file: "",
    fs_type: "",
    mount_options: [],
    recreate_scratch: false,
  },
  "io.containerd.snapshotter.v1.btrfs": { root_path: "" },
  "io.containerd.snapshotter.v1.devmapper": {
    root_path: "",
    pool_name: "",
    base_image_size: "",
    async_remove: false,
    discard_blocks: false,
    fs_type: "",
    fs_options: "",
  },
  "io.containerd.snapshotter.v1.erofs": {
    root_path: "",
    ovl_mount_options: [],
    enable_fsverity: false,
    set_immutable: false,
    default_size: "",
    dmverity_mode: "",
  },
  "io.containerd.snapshotter.v1.native": { root_path: "" },
  "io.containerd.snapshotter.v1.overlayfs": {
    root_path: "",
    upperdir_label: false,
    sync_remove: false,
    slow_chown: false,
    mount_options: [],
  },
  "io.containerd.snapshotter.v1.zfs": { root_path: "" },
  "io.containerd.tracing.processor.v1.otlp": {},
  "io.containerd.transfer.v1.local": {
    max_concurrent_downloads: 3,
    concurrent_layer_fetch_buffer: 0,
    max_concurrent_uploaded_layers: 3,
    check_platform_supported: false,
    config_path: "",
    max_concurrent_unpacks: 1,
  },
  // The event stream: a NATS server elsewhere, or a child of the daemon when no URL is given, and how much of the stream is kept.
  "io.flotilla.events.v1.nats": {
    url: "",
    credentials_file: "",
    ca_file: "",
    stream: "containerd",
    replicas: 1,
    retention_bytes: 256 * 1024 ** 2,
    retention_age: "72h0m0s",
  },
  // Whether systemd runs each process as a unit of its own, so that the gateway only watches.
  "io.flotilla.fleet.v1.supervisor": { units: false },
};

/**
 * Settings that a plugin knows though they have no default, as containerd leaves them out of its default configuration.
 *
 * @source containerd v2.3.4, the fields with `omitempty` in the plugins' configurations
 */
export const optionalSettings: Readonly<Record<string, readonly string[]>> = {
  "io.containerd.internal.v1.tracing": ["service_name", "sampling_ratio"],
  "io.containerd.tracing.processor.v1.otlp": ["endpoint", "protocol", "insecure"],
  "io.containerd.transfer.v1.local": ["unpack_config"],
};

/**
 * The settings of a plugin, merged over its defaults.
 *
 * @param plugin - `type.id`. One that nobody knows has an empty table.
 */
export function pluginTable(config: FleetConfig, plugin: string): PluginSettings {
  return new PluginSettings(config.plugins.get(plugin) ?? {}, ["plugins", plugin], config.sources);
}
