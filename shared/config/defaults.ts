import type { FleetConfig } from "./config.ts";
import type { ConfigDocument } from "./document.ts";
import { configVersion } from "./document.ts";
import { PluginSettings } from "./settings.ts";

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
 * The settings of a plugin, merged over its defaults.
 *
 * @param plugin - `type.id`. One that nobody knows has an empty table.
 */
export function pluginTable(config: FleetConfig, plugin: string): PluginSettings {
  return new PluginSettings(config.plugins.get(plugin) ?? {}, ["plugins", plugin], config.sources);
}
