import { parseByteSize } from "#base/byte-size.ts";
import { ErrorKind, errorMessage, FlotillaError } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { PluginSettings } from "#config/settings.ts";
import { skipPlugin } from "#fleet/plugin.ts";

/** The types of file systems that a volume may have. */
export type VolumeType = "ext4" | "ext2" | "xfs";

/** The table `[plugins."io.containerd.snapshotter.v1.devmapper"]`. */
export interface DevmapperConfig {
  readonly root: string;
  readonly pool: string;
  readonly sizeBytes: number;
  readonly discards: boolean;
  readonly type: VolumeType;
  readonly options: string;
}

/**
 * @param root - Where `root_path` does not name another.
 * @throws A skip when there is no pool; {@link FlotillaError} with containerd's words for what makes no sense.
 */
export function readDevmapperConfig(root: string, settings: PluginSettings): DevmapperConfig {
  const pool = settings.string("pool_name");
  if (pool === "") {
    throw skipPlugin("devmapper not configured");
  }
  const type = settings.string("fs_type") || "ext4";
  const size = settings.string("base_image_size");
  let sizeBytes: number;
  try {
    sizeBytes = parseByteSize(size);
  } catch (error) {
    throw new FlotillaError(ErrorKind.Unknown, `failed to parse base image size: '${size}': ${errorMessage(error)}`);
  }
  if (type !== "ext4" && type !== "ext2" && type !== "xfs") {
    throw new FlotillaError(ErrorKind.Unknown, `unsupported Filesystem Type: ${quote(type)}`);
  }
  return {
    root: settings.string("root_path") || root,
    pool,
    sizeBytes,
    discards: settings.boolean("discard_blocks"),
    type,
    options: settings.string("fs_options"),
  };
}
