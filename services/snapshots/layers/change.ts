import type { ByteString } from "#linux/bytes.ts";
import type { FileStatus } from "#linux/stat.ts";

/** One difference between two directory trees. */
export type Change =
  /** The path is in the lower tree alone. Of a removed directory only the directory itself is told. */
  | { readonly kind: "delete"; readonly path: ByteString }
  /** The path is in the upper tree alone, or differs. */
  | { readonly kind: "write"; readonly path: ByteString; readonly status: FileStatus }
  /** The path is the same in both, but the file has several names, another of which may be new. */
  | { readonly kind: "unchanged"; readonly path: ByteString; readonly status: FileStatus };
