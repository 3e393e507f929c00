import { ErrorKind, FlotillaError, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { digestOf } from "#containerd/digest.ts";
import { parseImageConfig } from "#containerd/image-manifest.ts";
import { layoutNameOf, normalizeImageName } from "#containerd/image-reference.ts";
import { MediaType } from "#containerd/media-types.ts";
import { normalizePlatform } from "#containerd/platform.ts";
import { descriptorJson, platformJson } from "../domain/descriptor-json.ts";
import { goJson } from "../domain/go-json.ts";
import { imageNameAnnotation } from "../domain/image-names.ts";
import { refNameAnnotation } from "../domain/ref-key.ts";
import type { Descriptor } from "../registry/ports.ts";
import type { TransferContent } from "../store/content.ts";
import type { ArchiveContents, ArchivedBlob } from "./archive-blobs.ts";
import { resolveDockerLayers } from "./docker-layers.ts";

export interface DockerArchiveParts {
  readonly content: TransferContent;
  /** Whether layers that are not compressed get compressed. */
  readonly compress: boolean;
  readonly signal: AbortSignal;
}

/** One image in `manifest.json`. */
interface DockerImage {
  readonly config: string;
  readonly tags: readonly string[];
  readonly layers: readonly string[];
}

/**
 * Writes manifests for the images of a `docker save`, which has none, and an index of them.
 *
 * @throws {@link FlotillaError} `unknown`, in containerd's words, when something is missing that it names.
 * @source containerd v2.3.4 core/images/archive/importer.go `ImportIndex`
 */
export async function indexDockerArchive(
  parts: DockerArchiveParts,
  archive: ArchiveContents,
  images: readonly unknown[],
): Promise<Descriptor> {
  const blobs = withLinks(archive);
  const manifests: Descriptor[] = [];
  for (const image of images) {
    const { config, tags, layers } = dockerImage(image);
    const manifest = await writeImage(parts, blobs, { config, layers });
    const names = tags.map(normalizedName);
    manifests.push(...(names.length === 0 ? [manifest] : names.map((name) => withName(manifest, name))));
  }
  return await writeDocument(parts, MediaType.ociIndex, {
    schemaVersion: 2,
    manifests: manifests.length === 0 ? null : manifests.map(descriptorJson),
  });
}

function withLinks({ blobs, links }: ArchiveContents): ReadonlyMap<string, ArchivedBlob> {
  const all = new Map(blobs);
  for (const [name, target] of links) {
    const blob = blobs.get(target);
    if (blob === undefined) {
      throw new FlotillaError(ErrorKind.Unknown, `no target for symlink layer from ${quote(name)} to ${quote(target)}`);
    }
    all.set(name, blob);
  }
  return all;
}

function dockerImage(value: unknown): DockerImage {
  const { Config, RepoTags, Layers } = (typeof value === "object" && value !== null ? value : {}) as {
    readonly [key: string]: unknown;
  };
  const texts = (list: unknown): string[] =>
    Array.isArray(list) ? list.filter((item) => typeof item === "string") : [];
  return { config: typeof Config === "string" ? Config : "", tags: texts(RepoTags), layers: texts(Layers) };
}

async function writeImage(
  parts: DockerArchiveParts,
  blobs: ReadonlyMap<string, ArchivedBlob>,
  image: Pick<DockerImage, "config" | "layers">,
): Promise<Descriptor> {
  const config = blobs.get(image.config);
  if (config === undefined) {
    throw new FlotillaError(ErrorKind.Unknown, `image config ${quote(image.config)} not found`);
  }
  const layers = await resolveDockerLayers(parts, blobs, image.layers).catch((error: unknown) => {
    throw wrapFailure(error, "failed to resolve layers");
  });
  const configDescriptor = { mediaType: MediaType.dockerConfig, ...config };
  const manifest = await writeDocument(parts, MediaType.dockerManifest, {
    schemaVersion: 2,
    mediaType: MediaType.dockerManifest,
    config: descriptorJson(configDescriptor),
    layers: layers.map(descriptorJson),
  });
  const { platform } = parseImageConfig(
    await parts.content.readDocument(configDescriptor, parts.signal),
    config.digest,
  );
  return { ...manifest, platform: platformJson(normalizePlatform(platform)) };
}

async function writeDocument(
  { content, signal }: DockerArchiveParts,
  mediaType: string,
  document: object,
): Promise<Descriptor> {
  const bytes = goJson(document);
  const digest = digestOf(bytes);
  await content.write({ ref: `manifest-${digest}`, expected: digest, totalBytes: bytes.length, signal }, bytes);
  return { mediaType, digest, size: bytes.length };
}

function normalizedName(tag: string): string {
  try {
    return normalizeImageName(tag);
  } catch (error) {
    throw wrapFailure(error, `normalize image ref ${quote(tag)}`);
  }
}

function withName(manifest: Descriptor, name: string): Descriptor {
  return { ...manifest, annotations: { [imageNameAnnotation]: name, [refNameAnnotation]: layoutNameOf(name) } };
}
