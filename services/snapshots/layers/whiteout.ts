import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { asByteString, type ByteString, fromByteString, toByteString } from "#linux/bytes.ts";
import { type FileStatus, FileType, typeOf } from "#linux/stat.ts";

/** Prefix of names that stand for a removal. @source OCI image-spec v1.1 layer.md "Whiteouts" */
export const whiteoutPrefix = ".wh.";
const specialPrefix = ".wh..wh.";
/** Name in a directory of which nothing below is to be seen. @source OCI image-spec v1.1 layer.md "Opaque Whiteout" */
export const opaqueName = asByteString(".wh..wh..opq");

/** The attribute by which overlayfs knows an opaque directory. @source linux Documentation/filesystems/overlayfs.rst */
export const opaqueAttribute = toByteString("trusted.overlay.opaque");
/** The same where overlayfs is mounted with `userxattr`. */
export const userOpaqueAttribute = toByteString("user.overlay.opaque");
/** The value of these attributes that means opaque. */
export const opaqueValue = Buffer.from("y");

/** What a name in a layer asks for, other than to be made. */
export type Whiteout =
  /** Nothing of the directory in lower layers is to be seen. */
  | { readonly kind: "opaque" }
  /** This name of lower layers is not to be seen. */
  | { readonly kind: "remove"; readonly name: ByteString }
  /** Bookkeeping of aufs that means nothing to us. */
  | { readonly kind: "ignore" };

/**
 * Reads a name as a whiteout.
 *
 * @returns Undefined for an ordinary name.
 * @throws {@link FlotillaError} for a whiteout of the directory itself or of what is above it.
 * @source containerd v2.3.4 pkg/archive/tar.go `validateWhiteout`, `applyNaive`
 */
export function findWhiteout(base: ByteString): Whiteout | undefined {
  if (!base.startsWith(whiteoutPrefix)) {
    return undefined;
  }
  if (base === opaqueName) {
    return { kind: "opaque" };
  }
  const name = base.slice(whiteoutPrefix.length);
  if (name === "" || name === "." || name === "..") {
    throw new FlotillaError(ErrorKind.Unknown, `invalid whiteout name: ${fromByteString(base)}: invalid archive`);
  }
  return base.startsWith(specialPrefix) ? { kind: "ignore" } : { kind: "remove", name: asByteString(name) };
}

/** The name in a layer that stands for the removal of a file. */
export function whiteoutOf(base: ByteString): ByteString {
  return asByteString(`${whiteoutPrefix}${base}`);
}

/** Tells whether a file is what overlayfs keeps in an upper directory in place of a removed one. */
export function isOverlayWhiteout(status: FileStatus): boolean {
  return typeOf(status) === FileType.Character && status.nodeMajor === 0 && status.nodeMinor === 0;
}
