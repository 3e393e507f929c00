const imagePrefix = "application/vnd.erofs.layer";

/**
 * The media type of an uncompressed EROFS image, of one that may be compressed.
 *
 * @returns Undefined for layers of other kinds.
 * @source containerd v2.3.4 internal/erofsutils/mount.go `IsErofsMediaType`
 */
export function findImageMediaType(mediaType: string): string | undefined {
  return mediaType.startsWith(imagePrefix) ? mediaType.split("+")[0] : undefined;
}
