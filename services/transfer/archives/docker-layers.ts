import { Readable } from "node:stream";
import { createGzip } from "node:zlib";
import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { type Digest, parseDigest, splitDigest } from "#containerd/digest.ts";
import { uncompressedLabel } from "#containerd/labels.ts";
import { MediaType } from "#containerd/media-types.ts";
import type { Descriptor } from "../registry/ports.ts";
import type { TransferContent } from "../store/content.ts";
import type { ArchivedBlob } from "./archive-blobs.ts";
import { detectCompression } from "./compression.ts";

interface LayerParts {
  readonly content: TransferContent;
  /** Whether what is not compressed gets compressed. */
  readonly compress: boolean;
  readonly signal: AbortSignal;
}

/** Bytes that tell how a layer is compressed. */
const magicBytes = 10;

/**
 * The descriptors of the layers of a Docker archive, which says nothing of them but their files.
 *
 * A layer that the store has in compressed form already, by its label, is taken in that form.
 *
 * @source containerd v2.3.4 core/images/archive/importer.go `resolveLayers`
 */
export async function resolveDockerLayers(
  parts: LayerParts,
  blobs: ReadonlyMap<string, ArchivedBlob>,
  files: readonly string[],
): Promise<Descriptor[]> {
  const layers: Descriptor[] = [];
  for (const file of files) {
    const blob = blobs.get(file);
    if (blob === undefined) {
      throw new FlotillaError(ErrorKind.Unknown, `layer ${quote(file)} not found`);
    }
    const known = (await findCompressed(parts, blob.digest)) ?? blob;
    const mediaType = await mediaTypeOf(parts, known.digest);
    layers.push(
      parts.compress && known === blob && mediaType === MediaType.dockerLayer
        ? await compressLayer(parts, blob.digest)
        : { mediaType, ...known },
    );
  }
  return layers;
}

async function findCompressed({ content, signal }: LayerParts, digest: Digest): Promise<ArchivedBlob | undefined> {
  const found = await content.find([`labels.${quote(uncompressedLabel)}==${digest}`], signal);
  for (const blob of found.toReversed()) {
    const compressed = parseDigest(blob.digest);
    if (await content.hold(compressed, signal)) {
      return { digest: compressed, size: Number(blob.size) };
    }
  }
  return undefined;
}

async function mediaTypeOf({ content, signal }: LayerParts, digest: Digest): Promise<string> {
  for await (const piece of content.read(digest, { offset: 0, signal })) {
    const isPlain = detectCompression(piece.subarray(0, magicBytes)) === "none";
    return isPlain ? MediaType.dockerLayer : MediaType.dockerLayerGzip;
  }
  return MediaType.dockerLayer;
}

async function compressLayer({ content, signal }: LayerParts, digest: Digest): Promise<Descriptor> {
  const { algorithm, encoded } = splitDigest(digest);
  const writer = await content.openWriter({ ref: `compress-blob-${algorithm}-${encoded}`, totalBytes: 0, signal });
  if (writer === undefined) {
    throw new TypeError("an ingest without an expected digest cannot exist already");
  }
  let size = 0;
  try {
    const source = Readable.from(content.read(digest, { offset: 0, signal }), { objectMode: false });
    const gzip = createGzip();
    source.once("error", (error) => gzip.destroy(error));
    for await (const piece of source.pipe(gzip) as AsyncIterable<Buffer>) {
      await writer.append(piece);
      size += piece.length;
    }
    const compressed = await writer.commit({ [uncompressedLabel]: digest });
    return { mediaType: MediaType.dockerLayerGzip, digest: compressed, size };
  } catch (error) {
    await writer.discard();
    throw error;
  }
}
