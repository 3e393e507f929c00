import type { PluginManifest } from "#fleet/manifest.ts";

/** Plugins that are told of pods and containers and may change them. @source containerd v2.3.4 internal/nri/config.go `Config`, `DefaultConfig` */
export const nriPlugin = {
  type: "io.containerd.nri.v1",
  id: "nri",
  settings: {
    disable: { type: "boolean", default: false, about: "Whether there is no NRI." },
    socket_path: { type: "string", default: "/var/run/nri/nri.sock", about: "Socket for plugins that connect." },
    plugin_path: { type: "string", default: "/opt/nri/plugins", about: "Directory of plugins that are started." },
    plugin_config_path: { type: "string", default: "/etc/nri/conf.d", about: "Directory of their configurations." },
    plugin_registration_timeout: {
      type: "duration",
      default: "5s",
      about: "How long a plugin may take to register.",
    },
    plugin_request_timeout: { type: "duration", default: "2s", about: "How long a plugin may take to answer." },
    disable_connections: { type: "boolean", default: false, about: "Whether plugins may not connect." },
    default_validator: {
      type: "table",
      settings: {
        enable: { type: "boolean", default: false, about: "Whether changes by plugins are judged." },
        reject_oci_hook_adjustment: { type: "boolean", default: false, about: "Refuses hooks." },
        reject_runtime_default_seccomp_adjustment: {
          type: "boolean",
          default: false,
          about: "Refuses changes of the runtime's seccomp profile.",
        },
        reject_unconfined_seccomp_adjustment: {
          type: "boolean",
          default: false,
          about: "Refuses a profile for containers that have none.",
        },
        reject_custom_seccomp_adjustment: {
          type: "boolean",
          default: false,
          about: "Refuses changes of a container's own profile.",
        },
        reject_namespace_adjustment: { type: "boolean", default: false, about: "Refuses changes of namespaces." },
        reject_sysctl_adjustment: { type: "boolean", default: false, about: "Refuses changes of sysctls." },
        required_plugins: { type: "strings", default: [], about: "Plugins that every container must have seen." },
        tolerate_missing_plugins_annotation: {
          type: "string",
          default: "",
          about: "Annotation of containers that may do without them.",
        },
      },
      about: "What plugins may change.",
    },
  },
} as const satisfies PluginManifest;
