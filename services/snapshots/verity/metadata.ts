import { readFile } from "node:fs/promises";
import { ErrorKind, FlotillaError, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";

/** What has to be known of an image besides the image itself, in a file beside it. */
export interface VerityMetadata {
  /** In hexadecimal digits; stands for every byte of the image. */
  readonly rootHash: string;
  /** Where the superblock begins, in bytes. */
  readonly hashOffset: number;
}

/** Where the metadata of an image are. @source containerd v2.3.4 internal/dmverity/dmverity.go `MetadataPath` */
export function metadataPath(image: string): string {
  return `${image}.dmverity`;
}

/** @source containerd v2.3.4 internal/dmverity/dmverity.go `DmverityMetadata` */
export function encodeMetadata({ rootHash, hashOffset }: VerityMetadata): string {
  return JSON.stringify({ roothash: rootHash, hashoffset: hashOffset }, undefined, 2);
}

/** @throws {@link FlotillaError} `unknown` when it cannot be read or says nothing of use. */
export async function readMetadata(path: string): Promise<VerityMetadata> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    throw wrapFailure(error, `failed to read metadata file ${quote(path)}`);
  }
  const { roothash = "", hashoffset = 0 } = parse(path, text);
  if (roothash === "") {
    throw new FlotillaError(ErrorKind.Unknown, `missing root hash in metadata file ${quote(path)}`);
  }
  // It becomes a word among others of what the kernel is told.
  if (typeof roothash !== "string" || !/^(?:[0-9a-f]{2})+$/i.test(roothash)) {
    throw new FlotillaError(ErrorKind.Unknown, `invalid root hash in metadata file ${quote(path)}`);
  }
  if (typeof hashoffset !== "number" || !Number.isSafeInteger(hashoffset) || hashoffset < 0) {
    throw new FlotillaError(ErrorKind.Unknown, `invalid hash offset in metadata file ${quote(path)}`);
  }
  return { rootHash: roothash.toLowerCase(), hashOffset: hashoffset };
}

function parse(path: string, text: string): { readonly roothash?: unknown; readonly hashoffset?: unknown } {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : {};
  } catch (error) {
    throw wrapFailure(error, `failed to parse metadata file ${quote(path)}`);
  }
}
