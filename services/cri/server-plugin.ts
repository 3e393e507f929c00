import type { PluginManifest } from "#fleet/manifest.ts";
import { splitCriTables } from "./config-migration.ts";

/** What answers the kubelet. @source containerd v2.3.4 internal/cri/config/config.go `ServerConfig`, `DefaultServerConfig` */
export const serverPlugin = {
  type: "io.containerd.grpc.v1",
  id: "cri",
  settings: {
    disable_tcp_service: { type: "boolean", default: true, about: "Whether CRI is not served on TCP." },
    stream_server_address: {
      type: "string",
      default: "127.0.0.1",
      about: "Address on which exec, attach and port-forward are served.",
    },
    stream_server_port: { type: "string", default: "0", about: "Port for them; 0 for any that is free." },
    stream_idle_timeout: {
      type: "string",
      default: "4h0m0s",
      about: "Time without traffic after which such a connection is ended.",
    },
    enable_tls_streaming: { type: "boolean", default: false, about: "Whether such connections are encrypted." },
    x509_key_pair_streaming: {
      type: "table",
      settings: {
        tls_cert_file: { type: "string", default: "", about: "File of the certificate." },
        tls_key_file: { type: "string", default: "", about: "File of its key." },
      },
      about: "Certificate for them; one that is made at the start where it is empty.",
    },
  },
  migrate: splitCriTables,
} as const satisfies PluginManifest;
