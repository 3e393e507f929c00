import { createHash } from "node:crypto";
import { closeSync, constants, openSync, readFileSync, readlinkSync } from "node:fs";
import { type ByteString, fromByteString, toByteString } from "#linux/bytes.ts";
import { listDirectory } from "#linux/directory.ts";
import { type FileStatus, FileType, findStatusAt, typeOf } from "#linux/stat.ts";
import { findAttributeAt, listAttributesAt } from "#linux/xattr.ts";

/** All that can be told of one entry of a directory tree. What does not apply is absent. */
export interface TreeEntry {
  readonly type: "directory" | "file" | "symlink" | "character device" | "block device" | "pipe" | "socket" | "unknown";
  /** Permission bits in octal, such as `4755`. */
  readonly mode: string;
  readonly uid: number;
  readonly gid: number;
  readonly mtimeNs: bigint;
  /** Of a file. */
  readonly sizeBytes?: number;
  /** Of a file's content, in hexadecimal. */
  readonly sha256?: string;
  /** Of a symbolic link. */
  readonly linkTarget?: string;
  /** Path of the first entry of the tree, in the order of names, that is the same file. */
  readonly sameFileAs?: string;
  /** `major:minor` of a device. */
  readonly device?: string;
  /** Values in UTF-8 if they are that, else `hex:…`. Absent when there are none. */
  readonly xattrs?: Readonly<Record<string, string>>;
}

/** A directory tree by path; the top is `.`, names that are no UTF-8 have `\xNN` for each byte beyond ASCII. */
export type Tree = ReadonlyMap<string, TreeEntry>;

/**
 * Describes every entry of a directory tree, so that `assert.deepEqual` of two descriptions tells whether two trees are the
 * same and what differs.
 *
 * Follows no link, stays within the tree whatever is in it, and needs root for trees that others may not read.
 *
 * @param omit - What not to tell, such as `mtimeNs` where times do not count.
 * @throws {@link SystemError} or an error of `node:fs` when something cannot be read or the tree changes meanwhile.
 */
export function describeTree(
  directory: string,
  { omit = [] }: { readonly omit?: readonly (keyof TreeEntry)[] } = {},
): Tree {
  const tree = new Map<string, TreeEntry>();
  const firstNames = new Map<string, string>();
  const visit = (parent: number, name: ByteString, path: string): void => {
    const status = findStatusAt(parent, name);
    if (status === undefined) {
      throw new Error(`${directory}/${path} went away while it was described`);
    }
    tree.set(path, without(describeEntry({ parent, name, path, status }, firstNames), omit));
    if (typeOf(status) === FileType.Directory) {
      const opened = openSync(underDescriptor(parent, name), directoryFlags);
      try {
        for (const child of listDirectory(opened).sort()) {
          visit(opened, child, path === "." ? readable(child) : `${path}/${readable(child)}`);
        }
      } finally {
        closeSync(opened);
      }
    }
  };
  const top = openSync(directory, directoryFlags);
  try {
    visit(top, toByteString("."), ".");
  } finally {
    closeSync(top);
  }
  return tree;
}

const directoryFlags = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;

interface Found {
  readonly parent: number;
  readonly name: ByteString;
  readonly path: string;
  readonly status: FileStatus;
}

function describeEntry(found: Found, firstNames: Map<string, string>): TreeEntry {
  const { status, path } = found;
  const common = {
    mode: (status.mode & 0o7777).toString(8).padStart(4, "0"),
    uid: status.user,
    gid: status.group,
    mtimeNs: BigInt(status.modified.seconds) * 1_000_000_000n + BigInt(status.modified.nanoseconds),
    ...describeAttributes(found),
  };
  const inode = `${status.deviceMajor}:${status.deviceMinor}:${status.inode}`;
  const firstName = status.links > 1 ? firstNames.get(inode) : undefined;
  if (typeOf(status) !== FileType.Directory && firstName === undefined) {
    firstNames.set(inode, path);
  }
  const link = firstName === undefined ? {} : { sameFileAs: firstName };
  const device = { device: `${status.nodeMajor}:${status.nodeMinor}` };
  switch (typeOf(status)) {
    case FileType.Directory:
      return { type: "directory", ...common };
    case FileType.Regular:
      return { type: "file", ...common, ...link, sizeBytes: status.sizeBytes, sha256: hashFile(found) };
    case FileType.Symlink:
      return { type: "symlink", ...common, ...link, linkTarget: readLink(found) };
    case FileType.Character:
      return { type: "character device", ...common, ...link, ...device };
    case FileType.Block:
      return { type: "block device", ...common, ...link, ...device };
    case FileType.Fifo:
      return { type: "pipe", ...common, ...link };
    case FileType.Socket:
      return { type: "socket", ...common, ...link };
    default:
      return { type: "unknown", ...common, ...link };
  }
}

function describeAttributes({ parent, name }: Found): Pick<TreeEntry, "xattrs"> {
  const keys = listAttributesAt(parent, name).sort();
  if (keys.length === 0) {
    return {};
  }
  const pairs = keys.map((key) => [readable(key), readableValue(findAttributeAt(parent, name, key))]);
  return { xattrs: Object.fromEntries(pairs) as Record<string, string> };
}

function hashFile({ parent, name }: Found): string {
  return createHash("sha256")
    .update(readFileSync(underDescriptor(parent, name)))
    .digest("hex");
}

function readLink({ parent, name }: Found): string {
  return readable(readlinkSync(underDescriptor(parent, name), { encoding: "latin1" }) as ByteString);
}

function underDescriptor(parent: number, name: ByteString): Buffer {
  return Buffer.from(`/proc/self/fd/${parent}/${name}`, "latin1");
}

function readable(bytes: ByteString): string {
  const text = fromByteString(bytes);
  return toByteString(text) === bytes
    ? text
    : bytes.replace(/[\x80-\xff]/g, (byte) => `\\x${byte.charCodeAt(0).toString(16)}`);
}

function readableValue(value: Buffer | undefined): string {
  const text = value?.toString("utf8") ?? "";
  return value === undefined || Buffer.from(text).equals(value) ? text : `hex:${value.toString("hex")}`;
}

function without(entry: TreeEntry, omit: readonly (keyof TreeEntry)[]): TreeEntry {
  return omit.length === 0
    ? entry
    : (Object.fromEntries(Object.entries(entry).filter(([key]) => !omit.includes(key as keyof TreeEntry))) as never);
}
