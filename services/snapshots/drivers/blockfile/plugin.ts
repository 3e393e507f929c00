import type { PluginManifest } from "#fleet/manifest.ts";

/** @source containerd v2.3.4 plugins/snapshots/blockfile/plugin/plugin.go `Config` */
export const blockfilePlugin = {
  type: "io.containerd.snapshotter.v1",
  id: "blockfile",
  platformDependent: true,
  settings: {
    root_path: {
      type: "string",
      default: "",
      about: "Directory for everything of the snapshotter; one below the daemon's root where it is empty.",
    },
    scratch_file: {
      type: "string",
      default: "",
      about:
        "File with an empty file system that each first snapshot is a copy of; without it the snapshotter is skipped.",
    },
    fs_type: { type: "string", default: "", about: "Type of the file systems; ext4 where it is empty." },
    mount_options: {
      type: "strings",
      default: [],
      about: "Options for every mount; loop, and for xfs nouuid, are always among them.",
    },
    recreate_scratch: {
      type: "boolean",
      default: false,
      about: "Whether the scratch file is taken over anew at each start.",
    },
  },
} as const satisfies PluginManifest;
