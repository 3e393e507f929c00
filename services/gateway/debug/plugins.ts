import type { PluginManifest } from "#fleet/manifest.ts";

const httpType = "io.containerd.http.v1";

/** Profiles of processes, over HTTP. @source containerd v2.3.4 internal/pprof */
export const pprofPlugin = { type: httpType, id: "pprof" } as const satisfies PluginManifest;

/** Where they are asked for. @source containerd v2.3.4 plugins/server/debug */
export const debugPlugin = {
  type: "io.containerd.server.v1",
  id: "debug",
  requires: [httpType],
  settings: {
    address: {
      type: "string",
      default: "",
      about:
        "Socket for debugging, or an address of TCP: profiles and the state of each process; none where it is empty.",
    },
    uid: { type: "integer", default: 0, about: "Its user." },
    gid: { type: "integer", default: 0, about: "Its group." },
  },
} as const satisfies PluginManifest;
