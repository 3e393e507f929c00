/** The media types that decide how a descriptor is treated. @source containerd v2.3.4 core/images/mediatypes.go */
export const mediaTypes = {
  ociManifest: "application/vnd.oci.image.manifest.v1+json",
  ociIndex: "application/vnd.oci.image.index.v1+json",
  dockerManifest: "application/vnd.docker.distribution.manifest.v2+json",
  dockerManifestList: "application/vnd.docker.distribution.manifest.list.v2+json",
  dockerSchema1: "application/vnd.docker.distribution.manifest.v1+prettyjws",
} as const;

const manifests: readonly string[] = [mediaTypes.ociManifest, mediaTypes.dockerManifest];
const indexes: readonly string[] = [mediaTypes.ociIndex, mediaTypes.dockerManifestList];
const configs: readonly string[] = [
  "application/vnd.docker.container.image.v1+json",
  "application/vnd.oci.image.config.v1+json",
  "application/vnd.containerd.container.criu.checkpoint.criu.tar",
  "application/vnd.containerd.container.checkpoint.config.v1+proto",
];
const layers: readonly string[] = [
  "application/vnd.docker.image.rootfs.diff.tar",
  "application/vnd.docker.image.rootfs.diff.tar.gzip",
  "application/vnd.docker.image.rootfs.foreign.diff.tar",
  "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
  "application/vnd.docker.image.rootfs.diff.tar.zstd",
  "application/vnd.erofs.layer.v1",
];

/** Tells whether a descriptor is an image for one platform. */
export function isManifestType(mediaType: string): boolean {
  return manifests.includes(mediaType);
}

/** Tells whether a descriptor is a list of manifests. */
export function isIndexType(mediaType: string): boolean {
  return indexes.includes(mediaType);
}

/** Tells whether a registry keeps a descriptor among its manifests, not among its blobs. */
export function isKeptAsManifest(mediaType: string): boolean {
  return isManifestType(mediaType) || isIndexType(mediaType);
}

/**
 * The name of the ingest that a descriptor is fetched under. Clients that fetch by themselves use the same, and so go on
 * with what the other has begun.
 *
 * @source containerd v2.3.4 core/remotes/handlers.go `MakeRefKey`
 */
export function ingestRef(descriptor: {
  readonly mediaType: string;
  readonly digest: string;
  readonly annotations?: Readonly<Record<string, string>>;
}): string {
  const { mediaType, digest, annotations } = descriptor;
  const name = annotations?.["org.opencontainers.image.ref.name"];
  return `${ingestKind(mediaType)}-${name === undefined ? digest : `${name}@${digest}`}`;
}

function ingestKind(mediaType: string): string {
  if (isManifestType(mediaType)) {
    return "manifest";
  }
  if (isIndexType(mediaType)) {
    return "index";
  }
  if (mediaType.startsWith("application/vnd.oci.image.layer.") || layers.includes(mediaType.replace(/\+.*$/, ""))) {
    return "layer";
  }
  if (configs.includes(mediaType)) {
    return "config";
  }
  return mediaType === "application/vnd.in-toto+json" ? "attestation" : "unknown";
}
