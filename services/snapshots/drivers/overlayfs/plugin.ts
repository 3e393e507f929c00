import type { PluginManifest } from "#fleet/manifest.ts";

/** @source containerd v2.3.4 plugins/snapshots/overlay/plugin/plugin.go `Config` */
export const overlayPlugin = {
  type: "io.containerd.snapshotter.v1",
  id: "overlayfs",
  platformDependent: true,
  settings: {
    root_path: {
      type: "string",
      default: "",
      about: "Directory for everything of the snapshotter; one below the daemon's root where it is empty.",
    },
    upperdir_label: {
      type: "boolean",
      default: false,
      about:
        "Accepted for containerd's sake and without effect: snapshots never tell their upper directory in a label.",
    },
    sync_remove: {
      type: "boolean",
      default: false,
      about: "Accepted and without effect: directories always go with the collection that releases them, as with true.",
    },
    slow_chown: {
      type: "boolean",
      default: false,
      about: "Whether clients may ask for mapped ids without the kernel's help, by a chown of every file.",
    },
    mount_options: {
      type: "strings",
      default: [],
      about: "Options for every overlay mount; bind mounts do not get them.",
    },
  },
} as const satisfies PluginManifest;
