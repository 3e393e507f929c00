import type { PluginManifest } from "#fleet/manifest.ts";

/** The event stream, and the NATS server that carries it. */
export const natsPlugin = {
  type: "io.flotilla.events.v1",
  id: "nats",
  settings: {
    url: {
      type: "string",
      default: "",
      about:
        "NATS server or cluster elsewhere, as nats://user:password@host:4222, several with commas; a child of the daemon where it is empty.",
    },
    credentials_file: {
      type: "string",
      default: "",
      about: "File with JWT and seed for the server elsewhere, as nsc writes it.",
    },
    ca_file: { type: "string", default: "", about: "File of the certificates that sign the server's." },
    stream: {
      type: "string",
      default: "containerd",
      about: "Name of the JetStream stream, and first part of the subjects.",
    },
    replicas: { type: "integer", default: 1, about: "Copies of the stream in a cluster." },
    retention_bytes: {
      type: "integer",
      default: 256 * 1024 ** 2,
      about: "Size in bytes beyond which the oldest events are forgotten.",
    },
    retention_age: { type: "duration", default: "72h0m0s", about: "Age at which events are forgotten." },
  },
} as const satisfies PluginManifest;

/** Known to clients that look for containerd's plugin; the stream takes its place. */
const exchangePlugin = { type: "io.containerd.event.v1", id: "exchange" } as const satisfies PluginManifest;

/** Events as clients call them. */
export const eventsGrpcPlugin = {
  type: "io.containerd.grpc.v1",
  id: "events",
  requires: ["io.containerd.event.v1"],
} as const satisfies PluginManifest;

/** The plugins of this process, in the order of their initialisation. */
export const eventsPlugins: readonly PluginManifest[] = [natsPlugin, exchangePlugin, eventsGrpcPlugin];
