import { ErrorKind, failure } from "#base/errors.ts";
import type { PluginSettings } from "#config/settings.ts";

/**
 * The table `[plugins."io.containerd.snapshotter.v1.overlayfs"]`.
 *
 * @source containerd v2.3.4 plugins/snapshots/overlay/plugin/plugin.go `Config`
 */
export interface OverlayConfig {
  /** Directory for everything of the driver. */
  readonly root: string;
  /** Whether clients may ask for mapped ids without the kernel's help, by `chown` of every file. */
  readonly slowChown: boolean;
  /** Options for every overlay mount; bind mounts do not get them. */
  readonly mountOptions: readonly string[];
}

/**
 * Reads the driver's table.
 *
 * `sync_remove` is accepted and changes nothing: directories always go with the collection that releases them, as with true.
 *
 * @throws {@link FlotillaError} `invalid_argument` for a value of the wrong type, and for a root that overlayfs would read as
 *   several directories.
 */
export function parseOverlayConfig(defaultRoot: string, settings: PluginSettings): OverlayConfig {
  const root = settings.string("root_path") || defaultRoot;
  if (/[:,\\]/.test(root)) {
    throw failure(ErrorKind.InvalidArgument, `root_path ${root} holds a character that separates overlay layers`);
  }
  settings.boolean("sync_remove");
  return {
    root,
    slowChown: settings.boolean("slow_chown"),
    mountOptions: settings.strings("mount_options"),
  };
}
