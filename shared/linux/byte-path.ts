import { asByteString, type ByteString } from "./bytes.ts";

/** A relative path taken apart. */
export interface SplitPath {
  /** Directory, "" for the root. */
  readonly parent: ByteString;
  readonly base: ByteString;
}

/** Takes a path apart at its last slash. */
export function splitPath(path: ByteString): SplitPath {
  const slash = path.lastIndexOf("/");
  return slash === -1
    ? { parent: asByteString(""), base: path }
    : { parent: asByteString(path.slice(0, slash)), base: asByteString(path.slice(slash + 1)) };
}

/** Puts a name behind the path of a directory, "" for the root. */
export function joinPath(parent: ByteString, base: ByteString): ByteString {
  return parent === "" ? base : asByteString(`${parent}/${base}`);
}
