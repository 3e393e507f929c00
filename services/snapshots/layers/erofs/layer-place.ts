import { access } from "node:fs/promises";
import { dirname } from "node:path/posix";
import { ErrorKind, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import type { Mount } from "#linux/mount.ts";
import { findOption } from "#linux/mount-options.ts";

/** By this file the EROFS snapshotter marks the directories of its active snapshots. */
const mark = ".erofslayer";

/**
 * The directory of the snapshot whose mounts these are, if it is one of the EROFS snapshotter's.
 *
 * @throws {@link FlotillaError} `not_implemented` for mounts of others.
 * @source containerd v2.3.4 internal/erofsutils/mount.go `MountsToLayer`
 */
export async function findLayerPlace(mounts: readonly Mount[]): Promise<string> {
  const place = placeOf(mounts);
  try {
    await access(`${place}/${mark}`);
  } catch (error) {
    throw failure(ErrorKind.NotImplemented, "mount layer type must be erofs-layer", { cause: error });
  }
  return place;
}

function placeOf(mounts: readonly Mount[]): string {
  const [first] = mounts;
  const last = mounts.at(-1);
  if (first === undefined || last === undefined) {
    throw failure(ErrorKind.InvalidArgument, "there are no mounts to apply the layer to");
  }
  // The file system that is written in lies beside the layer.
  if (first.type.startsWith("mkfs/")) {
    return dirname(first.source);
  }
  switch (last.type.split("/").at(-1)) {
    case "bind":
    case "erofs":
      return dirname(last.source);
    case "overlay": {
      const upper = findOption(last.options, "upperdir");
      if (upper === undefined && findOption(last.options, "lowerdir") === undefined) {
        throw failure(ErrorKind.NotImplemented, "unsupported overlay layer for erofs differ");
      }
      return dirname(upper ?? first.source);
    }
    default:
      throw failure(ErrorKind.NotImplemented, `invalid filesystem type ${quote(last.type)} for erofs differ`);
  }
}
