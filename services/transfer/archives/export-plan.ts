import { ErrorKind, failure } from "#base/errors.ts";
import { childrenOf, hasChildren, parseManifest } from "#containerd/image-manifest.ts";
import { familiarImageName, layoutNameOf } from "#containerd/image-reference.ts";
import { isIndexType, isManifestType, isNonDistributable } from "#containerd/media-types.ts";
import type { PlatformMatcher } from "#containerd/platform.ts";
import { sortByPlatform, withPlatform } from "../domain/child-filter.ts";
import { imageNameAnnotation } from "../domain/image-names.ts";
import { refNameAnnotation } from "../domain/ref-key.ts";
import { Visits } from "../domain/visits.ts";
import type { Descriptor } from "../registry/ports.ts";
import type { TransferContent } from "../store/content.ts";
import { type ArchivePlan, blobPath } from "./export-archive.ts";

/** Labels that say where a blob comes from. */
const distributionSourcePrefix = "containerd.io/distribution.source.";

/** An image under the name that it is exported by. */
export interface ExportedImage {
  readonly name: string;
  readonly target: Descriptor;
}

export interface ExportOptions {
  /** Which manifest of an index is the image for `docker load`, and which are exported at all. */
  readonly matcher: PlatformMatcher;
  /** All manifests of an index are exported, and have to be there. */
  readonly allPlatforms: boolean;
  readonly skipDockerManifest: boolean;
  readonly skipNonDistributable: boolean;
}

/**
 * Finds out what an archive of images consists of.
 *
 * @throws {@link FlotillaError} `not_found` when a manifest is not there, or an index has none for the platforms;
 *   `invalid_argument` when an image is neither a manifest nor an index.
 * @source containerd v2.3.4 core/images/archive/exporter.go `Export`
 */
export async function planExport(
  content: TransferContent,
  images: readonly ExportedImage[],
  options: ExportOptions,
  signal: AbortSignal,
): Promise<ArchivePlan> {
  const planning = new ExportPlanning(content, options, signal);
  const manifests: Descriptor[] = [];
  for (const { name, target } of images) {
    manifests.push(await planning.add(name, target));
  }
  const dockerImages = options.skipDockerManifest ? [] : await planning.dockerImages();
  return {
    manifests,
    blobs: planning.blobs,
    dockerImages: dockerImages.length === 0 ? undefined : dockerImages,
  };
}

class ExportPlanning {
  readonly blobs: Descriptor[] = [];
  readonly #content: TransferContent;
  readonly #options: ExportOptions;
  readonly #signal: AbortSignal;
  readonly #visits = new Visits((descriptor) => this.#visit(descriptor));
  /** Manifests that `docker load` can read, with the names of their images. */
  readonly #runnable = new Map<string, { readonly manifest: Descriptor; readonly names: string[] }>();

  constructor(content: TransferContent, options: ExportOptions, signal: AbortSignal) {
    this.#content = content;
    this.#options = options;
    this.#signal = signal;
  }

  /** @returns the image as `index.json` names it. */
  async add(name: string, target: Descriptor): Promise<Descriptor> {
    let manifest = target;
    if (isIndexType(target.mediaType)) {
      manifest = await this.#addIndex(target);
    } else if (isManifestType(target.mediaType)) {
      await this.#visits.visit(target);
    } else {
      throw failure(ErrorKind.InvalidArgument, "only manifests may be exported");
    }
    const runnable = this.#runnable.get(manifest.digest) ?? { manifest, names: [] };
    runnable.names.push(name);
    this.#runnable.set(manifest.digest, runnable);
    const labels = Object.entries((await this.#content.findLabels(target.digest, this.#signal)) ?? {});
    return {
      ...target,
      annotations: {
        ...target.annotations,
        [imageNameAnnotation]: name,
        [refNameAnnotation]: layoutNameOf(name),
        ...Object.fromEntries(labels.filter(([key]) => key.startsWith(distributionSourcePrefix))),
      },
    };
  }

  /** The images as `manifest.json` has them. */
  async dockerImages(): Promise<object[]> {
    const images: object[] = [];
    for (const { manifest, names } of this.#runnable.values()) {
      const { config, layers } = parseManifest(await this.#content.readDocument(manifest, this.#signal), manifest);
      images.push({
        Config: config === undefined ? "" : blobPath(config),
        RepoTags: names.map(familiarImageName),
        Layers: layers.length === 0 ? null : layers.map(blobPath),
      });
    }
    return images;
  }

  /** @returns the manifest that suits best. */
  async #addIndex(index: Descriptor): Promise<Descriptor> {
    const { matcher, allPlatforms } = this.#options;
    this.blobs.push(index);
    const { manifests } = parseManifest(await this.#content.readDocument(index, this.#signal), index);
    const fitting = withPlatform(matcher, manifests);
    for (const manifest of allPlatforms ? manifests : fitting) {
      await this.#visits.visit(manifest);
    }
    const [best] = sortByPlatform(matcher, fitting);
    if (best === undefined) {
      throw failure(ErrorKind.NotFound, "no manifest found for platform");
    }
    return best;
  }

  async #visit(descriptor: Descriptor): Promise<void> {
    if (this.#options.skipNonDistributable && isNonDistributable(descriptor.mediaType)) {
      return;
    }
    this.blobs.push(descriptor);
    if (hasChildren(descriptor)) {
      const bytes = await this.#content.readDocument(descriptor, this.#signal);
      for (const child of childrenOf(parseManifest(bytes, descriptor))) {
        await this.#visits.visit(child);
      }
    }
  }
}
