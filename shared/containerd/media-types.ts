/** Media types that have no other name here. @source containerd v2.3.4 core/images/mediatypes.go; OCI image-spec v1.1 media-types.md */
export const MediaType = {
  ociManifest: "application/vnd.oci.image.manifest.v1+json",
  ociIndex: "application/vnd.oci.image.index.v1+json",
  ociConfig: "application/vnd.oci.image.config.v1+json",
  dockerManifest: "application/vnd.docker.distribution.manifest.v2+json",
  dockerManifestList: "application/vnd.docker.distribution.manifest.list.v2+json",
  dockerConfig: "application/vnd.docker.container.image.v1+json",
  dockerLayer: "application/vnd.docker.image.rootfs.diff.tar",
  dockerLayerGzip: "application/vnd.docker.image.rootfs.diff.tar.gzip",
  /** What Docker wrote before there were manifests of today's kind. Not supported. */
  dockerSchema1: "application/vnd.docker.distribution.manifest.v1+prettyjws",
  /** What some registries call a configuration. @source containerd v2.3.4 core/remotes/docker/converter.go `LegacyConfigMediaType` */
  legacyConfig: "application/octet-stream",
} as const;

const layers: ReadonlySet<string> = new Set([
  MediaType.dockerLayer,
  MediaType.dockerLayerGzip,
  "application/vnd.docker.image.rootfs.diff.tar.zstd",
  "application/vnd.docker.image.rootfs.foreign.diff.tar",
  "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
  "application/vnd.erofs.layer.v1",
]);

const checkpointConfigs: ReadonlySet<string> = new Set([
  "application/vnd.containerd.container.criu.checkpoint.criu.tar",
  "application/vnd.containerd.container.checkpoint.config.v1+proto",
]);

/** Whether it is the manifest of one image, in OCI's words or Docker's. */
export function isManifestType(mediaType: string): boolean {
  return mediaType === MediaType.ociManifest || mediaType === MediaType.dockerManifest;
}

/** Whether it is a list of manifests, in OCI's words or Docker's. */
export function isIndexType(mediaType: string): boolean {
  return mediaType === MediaType.ociIndex || mediaType === MediaType.dockerManifestList;
}

/** Whether it is the configuration of an image that can run. */
export function isConfigType(mediaType: string): boolean {
  return mediaType === MediaType.ociConfig || mediaType === MediaType.dockerConfig;
}

/** Whether it is the configuration of an image or of a checkpoint. */
export function isKnownConfigType(mediaType: string): boolean {
  return isConfigType(mediaType) || checkpointConfigs.has(mediaType);
}

/** Whether it is a layer of an image, whatever its compression. */
export function isLayerType(mediaType: string): boolean {
  const base = mediaType.split("+", 1)[0] ?? "";
  return mediaType.startsWith("application/vnd.oci.image.layer.") || layers.has(base);
}

/** Whether it is an attestation of how an image was built. */
export function isAttestationType(mediaType: string): boolean {
  return mediaType === "application/vnd.in-toto+json";
}

/** Whether it may not be passed on. */
export function isNonDistributable(mediaType: string): boolean {
  return (
    mediaType.startsWith("application/vnd.oci.image.layer.nondistributable.") ||
    mediaType.startsWith("application/vnd.docker.image.rootfs.foreign.")
  );
}
