import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { MediaType } from "#containerd/media-types.ts";
import type { Descriptor } from "../registry/ports.ts";
import type { TransferContent } from "../store/content.ts";
import { type ArchiveContents, readArchive } from "./archive-blobs.ts";
import { indexDockerArchive } from "./docker-archive.ts";

/** @source OCI image-spec v1.1 specs-go/v1/layout.go `ImageLayoutVersion` */
const layoutVersion = "1.0.0";

export interface ImportOptions {
  /** Whether layers of a Docker archive that are not compressed get compressed. */
  readonly compress: boolean;
  readonly signal: AbortSignal;
}

/**
 * Reads an archive of images, either generation of `docker save` or an OCI layout, into the content store.
 *
 * @returns the index of what was in it, whose manifests have the names of the images as annotations.
 * @throws {@link FlotillaError} `unknown`, in containerd's words, when it is none.
 * @source containerd v2.3.4 core/images/archive/importer.go `ImportIndex`
 */
export async function importArchive(
  content: TransferContent,
  bytes: AsyncIterable<Uint8Array>,
  { compress, signal }: ImportOptions,
): Promise<Descriptor> {
  const archive = await readArchive(content, bytes, signal);
  const version = versionOf(archive);
  if (version !== undefined) {
    return layoutIndex(archive, version);
  }
  if (!Array.isArray(archive.dockerManifest)) {
    throw new FlotillaError(ErrorKind.Unknown, "unrecognized image format");
  }
  return await indexDockerArchive({ content, signal, compress }, archive, archive.dockerManifest);
}

function versionOf({ layout }: ArchiveContents): string | undefined {
  if (typeof layout !== "object" || layout === null || !("imageLayoutVersion" in layout)) {
    return undefined;
  }
  const version = String(layout.imageLayoutVersion);
  return version === "" ? undefined : version;
}

function layoutIndex({ blobs }: ArchiveContents, version: string): Descriptor {
  if (version !== layoutVersion) {
    throw new FlotillaError(ErrorKind.Unknown, `unsupported OCI version ${version}`);
  }
  const index = blobs.get("index.json");
  if (index === undefined) {
    throw new FlotillaError(ErrorKind.Unknown, `missing index.json in OCI layout ${layoutVersion}`);
  }
  return { mediaType: MediaType.ociIndex, ...index };
}
