import { randomBytes } from "node:crypto";
import { ErrorKind, failure, wrapFailure } from "#base/errors.ts";
import type { StreamProcessorConfig } from "#config/config.ts";
import { type Labels, uncompressedLabel } from "#containerd/labels.ts";
import type { FileTime } from "#linux/inode.ts";
import type { Mount } from "#linux/mount.ts";
import { readOnlyMounts } from "#linux/mount-options.ts";
import { withTemporaryMount } from "#linux/temporary-mount.ts";
import type { AppliedLayer } from "./apply.ts";
import type { Compression } from "./compression.ts";
import type { ExtractionTarget } from "./extractor.ts";
import type { ApplyOrder, LayerApplier } from "./layer-applier.ts";
import type { LayerLimits } from "./layer-limits.ts";
import { gzipLayerMediaType, layerMediaType, planProcessors, zstdLayerMediaType } from "./media-type.ts";
import { findChangedDirectory, findDirectTarget } from "./mount-shape.ts";
import type { BlobStore, ContentOwner, LayerMounts, LayerWorkers, WrittenBlob } from "./ports.ts";

const compressions: ReadonlyMap<string, Compression> = new Map([
  [layerMediaType, "none"],
  [gzipLayerMediaType, "gzip"],
  [zstdLayerMediaType, "zstd"],
]);

/** Two file systems of which the difference is wanted. */
export interface CompareOrder {
  readonly left: readonly Mount[];
  readonly right: readonly Mount[];
  /** "" for gzip. */
  readonly mediaType: string;
  /** Ref of the ingest, "" for a new one. */
  readonly ref: string;
  readonly labels: Labels;
  /** Times of modification after this one are written as this one. */
  readonly latest: FileTime | undefined;
}

/** A blob that was made of a difference. */
export interface ComparedLayer extends WrittenBlob {
  readonly mediaType: string;
}

export interface DifferParts {
  readonly blobs: BlobStore;
  readonly threads: LayerWorkers;
  readonly mounts: LayerMounts;
  /** Directory of temporary mounts. */
  readonly temporaryMounts: string;
  readonly programs: ReadonlyMap<string, StreamProcessorConfig>;
  readonly limits: LayerLimits;
}

/** Makes file systems of layers and layers of file systems. */
export class Differ implements LayerApplier {
  readonly appliesInOrder = false;
  readonly #parts: DifferParts;

  constructor(parts: DifferParts) {
    this.#parts = parts;
  }

  /**
   * Applies a layer to a file system. Mounts it only if it has to. A failure leaves a part of the layer there.
   *
   * @returns Digest and size of the uncompressed layer.
   * @source containerd v2.3.4 core/diff/apply/apply.go `(*fsApplier).Apply`
   */
  async apply(owner: ContentOwner, order: ApplyOrder): Promise<AppliedLayer> {
    const { blobs, threads, mounts, temporaryMounts, programs, limits } = this.#parts;
    const blobPath = await locateBlob(blobs, owner, order.digest);
    const steps = planProcessors(order.mediaType, programs);
    const { blobBytes, payloads, syncFileSystem, measures = false } = order;
    if (order.mounts.length === 0) {
      throw failure(ErrorKind.InvalidArgument, "there are no mounts to apply the layer to");
    }
    const applyTo = (target: ExtractionTarget, counts = false): Promise<AppliedLayer> =>
      threads.apply(
        { blobPath, blobBytes, steps, payloads, target, syncFileSystem, measures: counts, limits },
        owner.signal,
        order.onProgress,
      );
    const direct = findDirectTarget(order.mounts);
    if (direct !== undefined) {
      return await applyTo(direct, measures);
    }
    return await mounts.withActivated(order.mounts, async (system) => {
      // What comes first may have been what there was to mount.
      const target = findDirectTarget(system);
      return target === undefined
        ? await withTemporaryMount(system, temporaryMounts, (root) =>
            applyTo({ root, whiteouts: "remove", lowers: [] }),
          )
        : await applyTo(target);
    });
  }

  /**
   * Writes the difference between two file systems as a blob. That the blob was there before is no error.
   *
   * @throws {@link FlotillaError} `not_implemented` for media types other than tar, tar+gzip and tar+zstd layers.
   * @source containerd v2.3.4 plugins/diff/walking/differ.go `Compare`
   */
  async compare(owner: ContentOwner, order: CompareOrder): Promise<ComparedLayer> {
    const mediaType = order.mediaType === "" ? gzipLayerMediaType : order.mediaType;
    const compression = compressions.get(mediaType);
    if (compression === undefined) {
      throw failure(ErrorKind.NotImplemented, `unsupported diff media type: ${mediaType}`);
    }
    const { mounts, temporaryMounts } = this.#parts;
    const withMounted = <T>(wanted: readonly Mount[], use: (root: string) => Promise<T>): Promise<T> =>
      mounts.withActivated(wanted, (system) => withTemporaryMount(system, temporaryMounts, use));
    const blob = await withMounted(order.left, (lower) =>
      withMounted(readOnlyMounts(order.right), (upper) => this.#write(owner, order, { lower, upper, compression })),
    );
    return { ...blob, mediaType };
  }

  async #write(
    owner: ContentOwner,
    order: CompareOrder,
    {
      lower,
      upper,
      compression,
    }: { readonly lower: string; readonly upper: string; readonly compression: Compression },
  ): Promise<WrittenBlob> {
    const { blobs, threads } = this.#parts;
    const ref = order.ref === "" ? newRef() : order.ref;
    const overlayUpper = findChangedDirectory(order.left, order.right);
    const job = { trees: { lower, upper, overlayUpper }, compression, latest: order.latest };
    let uncompressedDigest = "";
    const pieces = async function* (): AsyncGenerator<Uint8Array> {
      const written = yield* threads.compare(job, owner.signal);
      ({ uncompressedDigest } = written);
    };
    const labels = (): Labels =>
      compression === "none" ? order.labels : { ...order.labels, [uncompressedLabel]: uncompressedDigest };
    try {
      const blob = await blobs.write(owner, ref, pieces(), labels);
      if (blob.existed && compression !== "none") {
        await blobs.addLabel(owner, blob.digest, uncompressedLabel, uncompressedDigest);
      }
      return blob;
    } catch (error) {
      if (order.ref === "") {
        // What is left of an ingest that nobody knows expires by itself, so failing to remove it now does not matter.
        await blobs.abort(owner, ref).catch(() => undefined);
      }
      throw wrapFailure(error, compression === "none" ? "failed to write diff" : "failed to write compressed diff");
    }
  }
}

/** Where the file of a blob lies. @throws {@link FlotillaError} `not_found`, as a differ words it. */
export async function locateBlob(blobs: BlobStore, owner: ContentOwner, digest: string): Promise<string> {
  try {
    return await blobs.locate(owner, digest);
  } catch (error) {
    throw wrapFailure(error, "failed to get reader from content store");
  }
}

/** @source containerd v2.3.4 plugins/diff/walking/differ.go `uniqueRef` */
function newRef(): string {
  const nowNs = BigInt(Date.now()) * 1_000_000n;
  return `${nowNs}-${randomBytes(3).toString("base64url")}`;
}
