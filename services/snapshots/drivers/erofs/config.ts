import { readFile } from "node:fs/promises";
import { parseByteSize } from "#base/byte-size.ts";
import { ErrorKind, errorMessage, FlotillaError, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { PluginSettings } from "#config/settings.ts";
import { skipPlugin } from "#fleet/plugin.ts";
import { recordsEntryTypes } from "#linux/directory-entries.ts";
import { requireDeviceVerity } from "../../verity/kernel-support.ts";

/** When layers are mounted with dm-verity. */
export type VerityMode = "auto" | "on" | "off";

/** The table `[plugins."io.containerd.snapshotter.v1.erofs"]`. */
export interface ErofsConfig {
  readonly root: string;
  readonly overlayOptions: readonly string[];
  readonly fsVerity: boolean;
  readonly immutable: boolean;
  /** Bytes of the file system of an active snapshot; 0 for a directory. */
  readonly upperBytes: number;
  readonly verityMode: VerityMode;
}

/** @param root - Where `root_path` does not name another. @throws {@link FlotillaError} for a value that makes no sense. */
export function readErofsConfig(root: string, settings: PluginSettings): ErofsConfig {
  const size = settings.string("default_size");
  const mode = settings.string("dmverity_mode") || "auto";
  if (mode !== "auto" && mode !== "on" && mode !== "off") {
    throw new FlotillaError(ErrorKind.Unknown, `invalid dmverity_mode ${quote(mode)}: must be "auto", "on", or "off"`);
  }
  return {
    root: settings.string("root_path") || root,
    overlayOptions: settings.strings("ovl_mount_options"),
    fsVerity: settings.boolean("enable_fsverity"),
    immutable: settings.boolean("set_immutable"),
    upperBytes: size === "" ? 0 : parseSize(size),
    verityMode: mode,
  };
}

function parseSize(size: string): number {
  try {
    return parseByteSize(size);
  } catch (error) {
    throw new FlotillaError(ErrorKind.Unknown, `failed to parse default_size '${size}': ${errorMessage(error)}`);
  }
}

/**
 * Makes sure that the machine has what the snapshotter needs.
 *
 * @throws A skip without EROFS in the kernel; {@link FlotillaError} for a root whose file system hides the types of entries, or for
 *   dm-verity that is required and not there.
 * @source containerd v2.3.4 plugins/snapshots/erofs/erofs_linux.go `checkCompatibility`
 */
export async function requireErofs({ root, upperBytes, verityMode }: ErofsConfig): Promise<void> {
  if (verityMode === "on") {
    try {
      requireDeviceVerity();
    } catch (error) {
      throw wrapFailure(error, "failed to check dm-verity support");
    }
  }
  if (upperBytes === 0 && !recordsEntryTypes(root)) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      `${root} does not support d_type. If the backing filesystem is xfs, please reformat with ftype=1 to enable d_type support`,
    );
  }
  if (!(await readFile("/proc/filesystems", "utf8")).includes("\terofs\n")) {
    throw skipPlugin("EROFS unsupported, please `modprobe erofs`");
  }
}
