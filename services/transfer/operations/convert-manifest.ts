import { digestOf } from "#containerd/digest.ts";
import { childrenOf, parseManifest } from "#containerd/image-manifest.ts";
import { isManifestType, MediaType } from "#containerd/media-types.ts";
import { refKeyOf } from "../domain/ref-key.ts";
import type { Descriptor } from "../registry/ports.ts";
import type { TransferContent } from "../store/content.ts";

/**
 * Writes a manifest anew whose configuration has a media type that says nothing, as that of a Docker image. Anything else stays as
 * it is, an index too.
 *
 * @source containerd v2.3.4 core/remotes/docker/converter.go `ConvertManifest`
 */
export async function convertLegacyManifest(
  content: TransferContent,
  descriptor: Descriptor,
  signal: AbortSignal,
): Promise<Descriptor> {
  if (!isManifestType(descriptor.mediaType)) {
    return descriptor;
  }
  const bytes = await content.readDocument(descriptor, signal);
  const manifest = parseManifest(bytes, descriptor);
  if (manifest.config?.mediaType !== MediaType.legacyConfig) {
    return descriptor;
  }
  const document = JSON.parse(Buffer.from(bytes).toString("utf8")) as { config: Record<string, unknown> };
  document.config["mediaType"] = MediaType.dockerConfig;
  const converted = Buffer.from(JSON.stringify(document, undefined, 3));
  const written = { ...descriptor, digest: digestOf(converted), size: converted.length };
  const labels = childrenOf(manifest).map(({ digest }, index) => [`containerd.io/gc.ref.content.${index}`, digest]);
  await content.write(
    { ref: refKeyOf(written), expected: written.digest, totalBytes: written.size, signal },
    converted,
    Object.fromEntries(labels),
  );
  return written;
}
