import { messageBytesMax } from "#base/limits.ts";
import type { PluginManifest } from "#fleet/manifest.ts";

/** The gRPC socket on TCP. @source containerd v2.3.4 plugins/server/grpc `tcpConfig` */
export const tcpPlugin = {
  type: "io.containerd.server.v1",
  id: "grpc-tcp",
  requires: ["io.containerd.grpc.v1", "io.containerd.metrics.v1"],
  settings: {
    address: {
      type: "string",
      default: "",
      about: "Address of TCP for gRPC and Connect, such as 0.0.0.0:8443; none where it is empty.",
    },
    tls_ca: {
      type: "string",
      default: "",
      about: "File of the certificates that sign the clients'; with it, nobody gets in without a certificate.",
    },
    tls_cert: {
      type: "string",
      default: "",
      about:
        "File of the server's certificate; without it nothing is encrypted. It, its key and `tls_ca` are read again when they have changed.",
    },
    tls_key: { type: "string", default: "", about: "File of its key." },
    tls_common_name: {
      type: "string",
      default: "",
      about: "Common name that a client's certificate must have; needs `tls_ca`.",
    },
    max_recv_message_size: {
      type: "integer",
      default: messageBytesMax,
      about: "Longest message taken, in bytes; 4 MiB where it is zero.",
    },
    max_send_message_size: {
      type: "integer",
      default: messageBytesMax,
      about: "Longest message sent, in bytes; 2 GiB where it is zero.",
    },
  },
} as const satisfies PluginManifest;
