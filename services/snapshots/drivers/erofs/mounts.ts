import type { Mount } from "#linux/mount.ts";
import type { SnapshotKind } from "../driver.ts";

/** A read-only layer that is mounted below. */
export interface ErofsLayer {
  /** The image, or what describes several. */
  readonly source: string;
  /** Options besides `ro` and `loop`: the images that it describes (`device=`), how it is checked. */
  readonly options: readonly string[];
}

/** A file with the file system that an active snapshot is written in. */
export interface ErofsImage {
  readonly path: string;
  readonly sizeBytes: number;
  readonly user: number;
  readonly group: number;
}

/** What goes into the mounts of one snapshot. */
export interface ErofsTree {
  readonly kind: Exclude<SnapshotKind, "committed">;
  /** Directory of what is written, and scratch directory of overlayfs beside it. */
  readonly upper: string;
  readonly work: string;
  /** File for a file system that holds both instead, its size, and whom the directory in it belongs to. */
  readonly image: ErofsImage | undefined;
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
  const own = isWritable && image !== undefined ? [imageMount(image)] : [];
  const upperInImage = `X-containerd.mkdir.path={{ mount 0 }}/upper:0755${ownerSuffix(image)}`;
  const [nearest] = layers;
  if (nearest === undefined) {
    return own.length > 0 ? [...own, directoryInImage(upperInImage)] : [bindMount(upper, isWritable ? "rw" : "ro")];
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
    : own.length > 0
      ? [upperInImage, ...directoriesInImage]
      : [`workdir=${work}`, `upperdir=${upper}`];
  const options = [...writable, ...mappingOptions, `lowerdir=${lower}`, ...overlayOptions];
  return [...mounts, { type: "format/mkdir/overlay", source: "overlay", options }];
}

function ownerSuffix(image: ErofsImage | undefined): string {
  const { user = 0, group = 0 } = image ?? {};
  return user === 0 && group === 0 ? "" : `:${user}:${group}`;
}

const directoriesInImage = [
  "X-containerd.mkdir.path={{ mount 0 }}/work:0755",
  "workdir={{ mount 0 }}/work",
  "upperdir={{ mount 0 }}/upper",
];

function directoryInImage(option: string): Mount {
  return { type: "format/mkdir/bind", source: "{{ mount 0 }}/upper", options: [option, "rw", "rbind"] };
}

function imageMount({ path, sizeBytes }: ErofsImage): Mount {
  const options = ["X-containerd.mkfs.fs=ext4", `X-containerd.mkfs.size=${sizeBytes}`, "rw", "loop"];
  return { type: "mkfs/ext4", source: path, options };
}

function layerMount({ source, options }: ErofsLayer): Mount {
  return { type: "erofs", source, options: ["ro", "loop", ...options] };
}

function bindMount(source: string, flag: "ro" | "rw"): Mount {
  return { type: "bind", source, options: [flag, "rbind"] };
}
