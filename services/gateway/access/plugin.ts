import type { PluginManifest } from "#fleet/manifest.ts";

/** Who may call what. It has a table in the configuration, but is no plugin that Introspection shows. */
export const accessPlugin = {
  type: "io.flotilla.fleet.v1",
  id: "access",
  settings: {
    policy: {
      type: "string",
      default: "",
      about: "File that says who may call what; without one, whoever can open the socket may do everything.",
    },
    audit_log: {
      type: "string",
      default: "",
      about:
        "File that gets a line for each call that changes something, and for each that is refused; none where it is empty.",
    },
    audit_log_bytes_max: {
      type: "integer",
      default: 67_108_864,
      about: "Size at which the file is put aside, as the one that is kept besides, with .1 behind its name.",
    },
  },
} as const satisfies PluginManifest;
