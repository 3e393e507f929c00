import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { joinPath, splitPath } from "#linux/byte-path.ts";
import { asByteString, type ByteString, fromByteString, toByteString } from "#linux/bytes.ts";
import {
  closeFile,
  OpenFlag,
  openAt,
  openResolved,
  Resolve,
  readSymlinkAt,
  succeed,
  workingDirectory,
} from "#linux/file.ts";
import type { FileTime } from "#linux/inode.ts";
import { type FileStatus, FileType, findStatusAt, typeOf } from "#linux/stat.ts";
import { findAttributeAt } from "#linux/xattr.ts";
import { MemberType, type TarMember } from "#tar/tar-format.ts";
import { archiveEnd, encodeMember, paddingOf } from "#tar/tar-writer.ts";
import type { Change } from "./change.ts";
import { readContent } from "./content.ts";
import { whiteoutOf } from "./whiteout.ts";

const itself = asByteString("");
const capabilityAttribute = toByteString("security.capability");
const epoch: FileTime = { seconds: 0, nanoseconds: 0 };

const memberTypes: ReadonlyMap<number, string> = new Map([
  [FileType.Regular, MemberType.Regular],
  [FileType.Directory, MemberType.Directory],
  [FileType.Symlink, MemberType.Symlink],
  [FileType.Character, MemberType.Character],
  [FileType.Block, MemberType.Block],
  [FileType.Fifo, MemberType.Fifo],
]);

/**
 * Writes changes as a layer.
 *
 * Every member comes after the directories it lies in, which are written for its sake if they are no change themselves. Sockets are
 * left out. Files with several names are written once and linked after that. Of the extended attributes only
 * `security.capability` is written, as containerd does.
 *
 * @source containerd v2.3.4 pkg/archive/tar.go `ChangeWriter`
 */
export class LayerWriter {
  readonly #root: number;
  readonly #latest: FileTime | undefined;
  readonly #directories = new Set<ByteString>();
  /** First written name of an inode with several. */
  readonly #written = new Map<bigint, ByteString>();
  /** Unchanged names of inodes none of which was written yet. */
  readonly #unchanged = new Map<bigint, ByteString[]>();

  /**
   * @param root - The tree that has the changes.
   * @param latest - Times of modification after this one are written as this one.
   */
  constructor(root: string, latest: FileTime | undefined) {
    this.#latest = latest;
    const flags = OpenFlag.ReadOnly | OpenFlag.Directory;
    this.#root = succeed(openAt(workingDirectory, toByteString(root), flags), () => `open ${root}`);
  }

  /** The bytes of the layer; each piece is good until the next one. To be called once. */
  *write(changes: Iterable<Change>): Generator<Buffer> {
    try {
      for (const change of changes) {
        yield* this.#writeChange(change);
      }
      yield archiveEnd;
    } finally {
      closeFile(this.#root);
    }
  }

  *#writeChange(change: Change): Generator<Buffer> {
    if (change.kind === "delete") {
      const { parent, base } = splitPath(change.path);
      yield* this.#writeParents(change.path);
      yield encodeMember(whiteoutMember(joinPath(parent, whiteoutOf(base))));
      return;
    }
    const type = memberTypes.get(typeOf(change.status));
    if (type !== undefined) {
      yield* this.#writeFile(change.path, change.status, type, change.kind === "write");
    }
  }

  *#writeFile(path: ByteString, status: FileStatus, type: string, isChanged: boolean): Generator<Buffer> {
    const name = type === MemberType.Directory ? asByteString(`${path}/`) : path;
    const hasNames = type !== MemberType.Directory && status.links > 1;
    const source = hasNames ? this.#written.get(status.inode) : undefined;
    if (source === undefined && !isChanged) {
      this.#unchanged.set(status.inode, [...(this.#unchanged.get(status.inode) ?? []), name]);
      return;
    }
    yield* this.#writeParents(path);
    const { directory, base } = this.#open(path);
    try {
      const member = this.#describe(name, type, status, directory, base);
      if (source !== undefined) {
        yield encodeMember(asLink(member, name, source));
        return;
      }
      yield encodeMember(member);
      if (type === MemberType.Regular) {
        yield* writeContent(directory, base, status.sizeBytes);
      }
      if (type === MemberType.Directory) {
        this.#directories.add(path);
      }
      if (hasNames) {
        yield* this.#writeOtherNames(member, status.inode);
      }
    } finally {
      closeFile(directory);
    }
  }

  *#writeOtherNames(member: TarMember, inode: bigint): Generator<Buffer> {
    this.#written.set(inode, member.name);
    const names = this.#unchanged.get(inode) ?? [];
    this.#unchanged.delete(inode);
    for (const name of names) {
      yield* this.#writeParents(name);
      yield encodeMember(asLink(member, name, member.name));
    }
  }

  *#writeParents(path: ByteString): Generator<Buffer> {
    const { parent } = splitPath(path);
    if (parent === "" || this.#directories.has(parent)) {
      return;
    }
    this.#directories.add(parent);
    const { directory, base } = this.#open(parent);
    try {
      const status = findStatusAt(directory, base);
      if (status !== undefined) {
        yield* this.#writeFile(parent, status, MemberType.Directory, true);
      }
    } finally {
      closeFile(directory);
    }
  }

  /** Opens the directory that a path lies in; no link on the way is followed. */
  #open(path: ByteString): { readonly directory: number; readonly base: ByteString } {
    const { parent, base } = splitPath(path);
    const flags = OpenFlag.ReadOnly | OpenFlag.Directory;
    const resolve = Resolve.Beneath | Resolve.NoSymlinks;
    const directory = openResolved(this.#root, parent === "" ? asByteString(".") : parent, flags, resolve);
    return { directory: succeed(directory, () => `open ${fromByteString(parent)}`), base };
  }

  #describe(name: ByteString, type: string, status: FileStatus, directory: number, base: ByteString): TarMember {
    const capability = findAttributeAt(directory, base, capabilityAttribute);
    const isDevice = type === MemberType.Character || type === MemberType.Block;
    return {
      name,
      type,
      linkName: type === MemberType.Symlink ? readSymlinkAt(directory, base) : itself,
      mode: status.mode & 0o7777,
      user: status.user,
      group: status.group,
      sizeBytes: type === MemberType.Regular ? status.sizeBytes : 0,
      modified: { seconds: this.#boundSeconds(status.modified), nanoseconds: 0 },
      accessed: undefined,
      deviceMajor: isDevice ? status.nodeMajor : 0,
      deviceMinor: isDevice ? status.nodeMinor : 0,
      attributes: new Map(
        capability === undefined || capability.length === 0 ? [] : [[capabilityAttribute, capability]],
      ),
    };
  }

  #boundSeconds(modified: FileTime): number {
    return this.#latest !== undefined && this.#latest.seconds < modified.seconds
      ? this.#latest.seconds
      : modified.seconds;
  }
}

function asLink(member: TarMember, name: ByteString, linkName: ByteString): TarMember {
  return { ...member, name, type: MemberType.HardLink, linkName, sizeBytes: 0 };
}

function whiteoutMember(name: ByteString): TarMember {
  return {
    name,
    type: MemberType.Regular,
    linkName: itself,
    mode: 0,
    user: 0,
    group: 0,
    sizeBytes: 0,
    modified: epoch,
    accessed: undefined,
    deviceMajor: 0,
    deviceMinor: 0,
    attributes: new Map(),
  };
}

/** The content of a file and its padding. What a file has grown by since its header was written is left out. */
function* writeContent(directory: number, name: ByteString, sizeBytes: number): Generator<Buffer> {
  if (sizeBytes === 0) {
    return;
  }
  let left = sizeBytes;
  for (const piece of readContent(directory, name)) {
    yield piece.length > left ? piece.subarray(0, left) : piece;
    left -= Math.min(left, piece.length);
    if (left === 0) {
      break;
    }
  }
  if (left > 0) {
    throw new FlotillaError(ErrorKind.Unknown, "short write copying file");
  }
  yield paddingOf(sizeBytes);
}
