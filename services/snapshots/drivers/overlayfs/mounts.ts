import type { Mount } from "#linux/mount.ts";
import type { SnapshotKind } from "../driver.ts";
import { directoryInImage, imageMount, type UpperImage, writableInImage } from "../upper-image.ts";

/** What goes into the mounts of one snapshot. */
export interface OverlayLayers {
  readonly kind: SnapshotKind;
  /** Where the snapshot's own files lie; not used by a view that has parents. */
  readonly upper: string;
  /** Scratch directory of overlayfs beside it. */
  readonly work: string;
  /** File with a file system in which an active snapshot is written instead. */
  readonly image?: UpperImage | undefined;
  /** Where the files of the ancestors lie, nearest first. The order is meaning: reversed, older files hide newer ones. */
  readonly parents: readonly string[];
  /** Options that come first in every mount, such as `uidmap=`. */
  readonly mappingOptions: readonly string[];
  /** Options that come last in overlay mounts, such as `index=off`. */
  readonly overlayOptions: readonly string[];
}

/**
 * The mounts that show a snapshot as one directory tree. An overlay needs a lower directory, so there are three shapes:
 * - no parent: a bind mount of the snapshot's own directory;
 * - a view of one parent: a read-only bind mount of the parent's;
 * - all else: one overlay mount, without upper directory for a view, so that the kernel refuses writes.
 *
 * What is limited in size is written in a file system of its own, which the mount manager mounts first.
 *
 * The options may be longer than mount(2) takes; whoever mounts has to shorten them.
 *
 * @source containerd v2.3.4 plugins/snapshots/overlay/overlay.go `(*snapshotter).mounts`
 */
export function overlayMounts(layers: OverlayLayers): Mount[] {
  const { kind, upper, work, image, parents, mappingOptions, overlayOptions } = layers;
  const [nearest] = parents;
  if (kind === "active" && image !== undefined) {
    const lower = `lowerdir=${parents.join(":")}`;
    const options = [...mappingOptions, ...writableInImage(image), lower, ...overlayOptions];
    return [
      imageMount(image),
      nearest === undefined ? directoryInImage(image) : { type: "format/mkdir/overlay", source: "overlay", options },
    ];
  }
  if (nearest === undefined) {
    return [bindMount(upper, [...mappingOptions, kind === "view" ? "ro" : "rw"])];
  }
  if (kind === "view" && parents.length === 1) {
    return [bindMount(nearest, [...mappingOptions, "ro"])];
  }
  const writable = kind === "active" ? [`workdir=${work}`, `upperdir=${upper}`] : [];
  const options = [...mappingOptions, ...writable, `lowerdir=${parents.join(":")}`, ...overlayOptions];
  return [{ type: "overlay", source: "overlay", options }];
}

function bindMount(source: string, options: readonly string[]): Mount {
  return { type: "bind", source, options: [...options, "rbind"] };
}
