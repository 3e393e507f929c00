import { ErrorKind, FlotillaError, wrapFailure } from "#base/errors.ts";
import type { AppliedLayer } from "../apply.ts";
import type { ComparedLayer, CompareOrder, Differ, DifferParts } from "../differ.ts";
import { locateBlob } from "../differ.ts";
import type { ApplyOrder, LayerApplier } from "../layer-applier.ts";
import { isLayerMediaType, layerMediaType, planProcessors } from "../media-type.ts";
import type { ContentOwner } from "../ports.ts";
import { findImageMediaType } from "./image-media-type.ts";
import { findLayerPlace } from "./layer-place.ts";
import type { ImageJob } from "./make-image.ts";
import { imageUuid, withBlockSize } from "./mkfs.ts";

export interface ErofsDifferParts {
  readonly common: Pick<DifferParts, "blobs" | "threads" | "programs" | "limits">;
  /** Does what is done alike for all file systems. */
  readonly walking: Differ;
  /** Further options of mkfs.erofs. */
  readonly options: readonly string[];
  readonly keepsArchives: boolean;
  /** Whether mkfs.erofs makes images of archives. */
  readonly readsArchives: boolean;
  /** Whether layers get the hashes by which dm-verity checks them. */
  readonly protectsLayers: boolean;
}

/**
 * Makes the image of an active snapshot of the EROFS snapshotter straight from a blob, in place of filling its directory. Snapshots of others
 * are not its business.
 *
 * Where mkfs.erofs cannot read archives, they are unpacked into the directory, of which the snapshotter makes the image.
 *
 * @source containerd v2.3.4 plugins/diff/erofs/differ.go, compare_linux.go
 */
export class ErofsDiffer implements LayerApplier {
  readonly appliesInOrder = false;
  readonly #parts: ErofsDifferParts;

  constructor(parts: ErofsDifferParts) {
    this.#parts = parts;
  }

  /**
   * @returns Digest and size of the uncompressed layer: of the image, for one that is an image already.
   * @throws {@link FlotillaError} `not_implemented` for mounts of others; `unknown` for media types that are no layers.
   */
  async apply(owner: ContentOwner, order: ApplyOrder): Promise<AppliedLayer> {
    const { walking } = this.#parts;
    const { blobs, threads, programs, limits } = this.#parts.common;
    const isImage = findImageMediaType(order.mediaType) !== undefined;
    const mediaType = isImage ? asLayer(order.mediaType) : order.mediaType;
    if (!isLayerMediaType(mediaType)) {
      throw new FlotillaError(ErrorKind.Unknown, `unsupported media type: ${order.mediaType}`);
    }
    const place = await findLayerPlace(order.mounts);
    if (!isImage && !this.#parts.readsArchives) {
      return await walking.apply(owner, order);
    }
    const job: ImageJob = {
      blobPath: await locateBlob(blobs, owner, order.digest),
      blobBytes: order.blobBytes,
      steps: planProcessors(mediaType, programs),
      payloads: order.payloads,
      limits,
      image: `${place}/layer.erofs`,
      form: isImage ? "image" : this.#parts.keepsArchives ? "indexed-archive" : "archive",
      options: [...withBlockSize(this.#parts.options), "-U", imageUuid(order.digest)],
      isProtected: this.#parts.protectsLayers,
    };
    return await threads.makeImage(job, owner.signal, order.onProgress);
  }

  /** See {@link Differ.compare}. @throws {@link FlotillaError} `not_implemented` for mounts of others. */
  async compare(owner: ContentOwner, order: CompareOrder): Promise<ComparedLayer> {
    try {
      await findLayerPlace(order.right);
    } catch (error) {
      throw wrapFailure(error, "unsupported layer for erofsDiff Compare method");
    }
    return await this.#parts.walking.compare(owner, order);
  }
}

/** The media type of a layer that is compressed the same way. */
function asLayer(mediaType: string): string {
  const plus = mediaType.indexOf("+");
  const suffix = plus < 0 ? "" : mediaType.slice(plus + 1);
  if (suffix !== "" && suffix !== "zstd") {
    throw new FlotillaError(ErrorKind.Unknown, `unsupported erofs layer suffix: ${suffix}`);
  }
  return plus < 0 ? layerMediaType : `${layerMediaType}+zstd`;
}
