import type { Mount } from "#linux/mount.ts";
import type { SnapshotKind } from "../driver.ts";
import { directoryInImage, imageMount, type UpperImage, writableInImage } from "../upper-image.ts";

/** A read-only layer that is mounted below. */
export interface ErofsLayer {
  /** The image, or what describes several. */
  readonly source: string;
  /** Options besides `ro` and `loop`: the images that it describes (`device=`), how it is checked. */
  readonly options: readonly string[];
}

/** What goes into the mounts of one snapshot. */
export interface ErofsTree {
  readonly kind: Exclude<SnapshotKind, "committed">;
  /** Directory of what is written, and scratch directory of overlayfs beside it. */
  readonly upper: string;
  readonly work: string;
  /** File for a file system that holds both instead. */
  readonly image: UpperImage | undefined;
  /** Layers below, the nearest first. */
  readonly layers: readonly ErofsLayer[];
  readonly mappingOptions: readonly string[];
  readonly overlayOptions: readonly string[];
}

/**
 * The mounts that show a snapshot as one tree. Most are for the mount manager: images are mounted first, and an overlay over what came of
 * them.
 *
 * - nothing below: the snapshot's own directory, or the one in its own file system;
 * - a view of one layer: that image alone;
 * - all else: every image, and an overlay over them, without upper directory for a view.
 *
 * @source containerd v2.3.4 plugins/snapshots/erofs/erofs.go `(*snapshotter).mounts`
 */
export function erofsMounts(tree: ErofsTree): Mount[] {
  const { kind, layers, image, upper, work, mappingOptions, overlayOptions } = tree;
  const isWritable = kind === "active";
  const written = kind === "active" ? image : undefined;
  const own = written === undefined ? [] : [imageMount(written)];
  const [nearest] = layers;
  if (nearest === undefined) {
    return written !== undefined ? [...own, directoryInImage(written)] : [bindMount(upper, isWritable ? "rw" : "ro")];
  }
  if (!isWritable && layers.length === 1) {
    return [layerMount(nearest)];
  }
  const mounts = [...own, ...layers.map(layerMount)];
  const first = own.length;
  const last = mounts.length - 1;
  const lower = first === last ? `{{ mount ${first} }}` : `{{ overlay ${first} ${last} }}`;
  const writable = !isWritable
    ? []
    : written !== undefined
      ? writableInImage(written)
      : [`workdir=${work}`, `upperdir=${upper}`];
  const options = [...writable, ...mappingOptions, `lowerdir=${lower}`, ...overlayOptions];
  return [...mounts, { type: "format/mkdir/overlay", source: "overlay", options }];
}

function layerMount({ source, options }: ErofsLayer): Mount {
  return { type: "erofs", source, options: ["ro", "loop", ...options] };
}

function bindMount(source: string, flag: "ro" | "rw"): Mount {
  return { type: "bind", source, options: [flag, "rbind"] };
}
