import type { PluginManifest } from "#fleet/manifest.ts";

/** @source containerd v2.3.4 plugins/snapshots/erofs/plugin/plugin.go `Config` */
export const erofsPlugin = {
  type: "io.containerd.snapshotter.v1",
  id: "erofs",
  platformDependent: true,
  settings: {
    root_path: {
      type: "string",
      default: "",
      about: "Directory for everything of the snapshotter; one below the daemon's root where it is empty.",
    },
    ovl_mount_options: { type: "strings", default: [], about: "Options for every overlay mount." },
    enable_fsverity: {
      type: "boolean",
      default: false,
      about: "Whether the kernel checks every block of a committed layer; the file system must have fs-verity.",
    },
    set_immutable: {
      type: "boolean",
      default: false,
      about: "Whether committed layers get the attribute that keeps everybody from changing and deleting them.",
    },
    default_size: {
      type: "string",
      default: "",
      about:
        "Size of the file system that each active snapshot gets for what is written, such as 10GiB; a directory without a limit where it is empty.",
    },
    dmverity_mode: {
      type: "string",
      default: "",
      about:
        "Whether layers are mounted with dm-verity: auto (those that have it), on (no others) or off; auto where it is empty.",
    },
  },
} as const satisfies PluginManifest;
