import {
  isAttestationType,
  isIndexType,
  isKnownConfigType,
  isLayerType,
  isManifestType,
} from "#containerd/media-types.ts";
import type { Descriptor } from "../registry/ports.ts";

/** The annotation with the tag that an index gives a manifest. @source OCI image-spec v1.1 annotations.md */
export const refNameAnnotation = "org.opencontainers.image.ref.name";

/**
 * What clients call a blob that is on its way: the ref of its ingest, and the name in progress events.
 *
 * @source containerd v2.3.4 core/remotes/handlers.go `MakeRefKey`
 */
export function refKeyOf({ mediaType, digest, annotations }: Descriptor): string {
  const name = annotations?.[refNameAnnotation];
  return `${kindOf(mediaType)}-${name === undefined ? "" : `${name}@`}${digest}`;
}

function kindOf(mediaType: string): string {
  return isManifestType(mediaType)
    ? "manifest"
    : isIndexType(mediaType)
      ? "index"
      : isLayerType(mediaType)
        ? "layer"
        : isKnownConfigType(mediaType)
          ? "config"
          : isAttestationType(mediaType)
            ? "attestation"
            : "unknown";
}
