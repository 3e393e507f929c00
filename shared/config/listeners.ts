import { messageBytesMax } from "#base/limits.ts";
import type { ConfigurablePlugin } from "./manifest.ts";

/** Where the gRPC socket is when nothing says otherwise. @source containerd v2.3.4 defaults/defaults_linux.go `DefaultAddress` */
export const defaultAddress = "/run/containerd/containerd.sock";

const owner = {
  uid: {
    type: "integer",
    default: process.geteuid?.() ?? 0,
    defaultText: "the daemon's",
    about: "User that owns the socket.",
  },
  gid: {
    type: "integer",
    default: process.getegid?.() ?? 0,
    defaultText: "the daemon's",
    about: "Group that may connect as well.",
  },
} as const;

/**
 * The socket of the daemon. It stands here, and not beside the gateway's code, since every process is told where it is.
 *
 * @source containerd v2.3.4 plugins/server/grpc
 */
export const grpcListener = {
  type: "io.containerd.server.v1",
  id: "grpc",
  settings: {
    address: { type: "string", default: defaultAddress, about: "Path of the socket for gRPC." },
    ...owner,
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
} as const satisfies ConfigurablePlugin;

/** Where figures are told. Every process is told of it as well, since each counts what it does if somebody wants to know. @source containerd v2.3.4 plugins/server/metrics */
export const metricsListener = {
  type: "io.containerd.server.v1",
  id: "metrics",
  settings: {
    address: {
      type: "string",
      default: "",
      about:
        "Address of TCP for Prometheus, such as 127.0.0.1:1338, which scrapes `/v1/metrics` there; nothing is counted where it is empty.",
    },
  },
} as const satisfies ConfigurablePlugin;

/** How calls are counted. @source containerd v2.3.4 plugins/server/grpc `metricsConfig` */
export const callMetrics = {
  type: "io.containerd.metrics.v1",
  id: "grpc-prometheus",
  settings: {
    grpc_histogram: { type: "boolean", default: false, about: "Whether the durations of calls are counted." },
  },
} as const satisfies ConfigurablePlugin;

/** The socket on which shims tell of events. @source containerd v2.3.4 plugins/server/ttrpc */
export const ttrpcListener = {
  type: "io.containerd.server.v1",
  id: "ttrpc",
  settings: {
    address: { type: "string", default: `${defaultAddress}.ttrpc`, about: "Path of the socket for ttrpc." },
    ...owner,
  },
} as const satisfies ConfigurablePlugin;
