import { asByteString, type ByteString } from "#linux/bytes.ts";

/**
 * Makes a path of a layer relative to the layer's root, without `.`, `..`, doubled or trailing slashes. What would climb out of
 * the root stays in it. Pure: symbolic links are not looked at.
 *
 * @returns "" for the root itself.
 * @source containerd v2.3.4 pkg/archive/tar.go `applyNaive` (filepath.Clean, then a join below the root)
 */
export function cleanLayerPath(path: ByteString): ByteString {
  if (!needsCleaning.test(path)) {
    return path;
  }
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") {
      parts.pop();
    } else if (part !== "" && part !== ".") {
      parts.push(part);
    }
  }
  return asByteString(parts.join("/"));
}

/** Empty parts, `.` and `..`. */
const needsCleaning = /(?:^|\/)\.{0,2}(?:\/|$)/;
