import { ErrorKind, FlotillaError, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { splitPath } from "#linux/byte-path.ts";
import { type ByteString, fromByteString, toByteString } from "#linux/bytes.ts";
import { listDirectory, removeTreeAt } from "#linux/directory.ts";
import {
  changeMode,
  changeModeAt,
  changeOwner,
  changeOwnerAt,
  closeFile,
  deviceNumber,
  type FileTime,
  makeDirectoryAt,
  makeLinkAt,
  makeNodeAt,
  makeSymlinkAt,
  OpenFlag,
  openAt,
  openResolved,
  Resolve,
  seekTo,
  setSize,
  setTimes,
  setTimesAt,
  succeed,
  writeFully,
} from "#linux/file.ts";
import { Errno, SystemError } from "#linux/libc.ts";
import { inUserNamespace } from "#linux/process.ts";
import { FileType, findStatusAt, typeOf } from "#linux/stat.ts";
import { setAttribute, setAttributeAt } from "#linux/xattr.ts";
import { MemberType, type TarMember } from "#tar/tar-format.ts";
import type { TarSink } from "#tar/tar-reader.ts";
import { Directory, DirectoryCache } from "./directory-cache.ts";
import { cleanLayerPath } from "./layer-path.ts";
import { findWhiteout, isOverlayWhiteout, opaqueAttribute, opaqueValue, type Whiteout } from "./whiteout.ts";

/** Where a layer goes. */
export interface ExtractionTarget {
  /** An existing directory. */
  readonly root: string;
  /**
   * How removals are written. `overlay`: `root` is an upper directory, which gets overlayfs' marks for them. `remove`: `root` shows
   * the whole file system, and what is removed is deleted.
   */
  readonly whiteouts: "overlay" | "remove";
  /** With `overlay`: the directories below, topmost first. */
  readonly lowers: readonly string[];
}

const permissionBits = 0o7777;
/** Setuid and setgid, which a change of owner clears. */
const privilegeBits = 0o6000;
const epoch: FileTime = { seconds: 0, nanoseconds: 0 };
/** Last time that can be set, the largest number of nanoseconds in 63 bits; later ones become the epoch. @source containerd v2.3.4 pkg/archive/time.go `boundTime` */
const latestTime: FileTime = { seconds: 9_223_372_036, nanoseconds: 854_775_807 };

const nodeTypes: ReadonlyMap<string, number> = new Map([
  [MemberType.Character, FileType.Character],
  [MemberType.Block, FileType.Block],
  [MemberType.Fifo, FileType.Fifo],
]);

/** A regular file whose content is being written. */
interface OpenFile {
  readonly member: TarMember;
  readonly path: ByteString;
  readonly directory: Directory;
  readonly descriptor: number;
  sizeBytes: number;
  endsInHole: boolean;
}

/**
 * Writes the members of a layer into a directory tree.
 *
 * Owners, modes with setuid bits, times to the nanosecond, extended attributes, devices and links are as in the archive.
 * Existing files are replaced, existing directories are merged, missing parents are made. Nothing outside the tree is
 * touched, whatever names and links the archive has; see {@link DirectoryCache}. A failure leaves what was written so far.
 *
 * The umask must be 0 (`clearThreadUmask`), the process root. Few system calls are made for a file: open, write, close, times, and
 * owner and mode only if they differ from what a new file has.
 *
 * @source containerd v2.3.4 pkg/archive/tar.go `applyNaive`, `createTarFile`, tar_opts_linux.go `OverlayConvertWhiteout`
 */
export class Extractor implements TarSink {
  readonly #target: ExtractionTarget;
  readonly #directories: DirectoryCache;
  readonly #canMakeDevices = !inUserNamespace();
  readonly #ownUser = process.geteuid?.() ?? -1;
  readonly #ownGroup = process.getegid?.() ?? -1;
  /** Directories get their times at the end, since every file that is made in one changes them. */
  readonly #directoryTimes: { readonly path: ByteString; readonly accessed: FileTime; readonly modified: FileTime }[] =
    [];
  /** What this layer has brought, which its own whiteouts do not hide: names below the {@link Directory.identity} they are in. Kept for `remove` alone. */
  readonly #brought: Set<string> | undefined;
  /** Directories that were made because a path needs them, and had no model in lower trees. Kept for `overlay` alone. */
  readonly #implied: Set<ByteString> | undefined;
  #file: OpenFile | undefined;

  constructor(target: ExtractionTarget) {
    this.#target = target;
    this.#brought = target.whiteouts === "remove" ? new Set() : undefined;
    this.#implied = target.whiteouts === "overlay" ? new Set() : undefined;
    this.#directories = new DirectoryCache(
      toByteString(target.root),
      target.lowers.map(toByteString),
      ({ path, parent, base, lower }) => {
        this.#brought?.add(broughtName(parent.identity, base));
        if (lower === undefined) {
          this.#implied?.add(path);
        } else {
          this.#directoryTimes.push({ path, accessed: lower.accessed, modified: lower.modified });
        }
      },
    );
  }

  begin(member: TarMember): void {
    this.#directories.trim();
    const path = cleanLayerPath(member.name);
    if (path === "" || (isDevice(member) && !this.#canMakeDevices)) {
      return;
    }
    const { parent, base } = splitPath(path);
    const directory = this.#directories.get(parent);
    const whiteout = findWhiteout(base);
    if (whiteout !== undefined) {
      try {
        this.#whiteOut(whiteout, directory, member);
      } catch (error) {
        throw wrapFailure(error, `failed to convert whiteout file ${quote(fromByteString(path))}`);
      }
      return;
    }
    this.#make(member, path, directory, base);
    this.#brought?.add(broughtName(directory.identity, base));
  }

  content(data: Buffer): void {
    const file = this.#file;
    if (file !== undefined) {
      succeed(writeFully(file.descriptor, data), () => `write ${this.#shown(file.path)}`);
      file.sizeBytes += data.length;
      file.endsInHole = false;
    }
  }

  hole(sizeBytes: number): void {
    const file = this.#file;
    if (file !== undefined) {
      file.sizeBytes += sizeBytes;
      file.endsInHole = true;
      succeed(seekTo(file.descriptor, file.sizeBytes), () => `seek ${this.#shown(file.path)}`);
    }
  }

  finish(): void {
    const file = this.#file;
    if (file !== undefined) {
      if (file.endsInHole) {
        succeed(setSize(file.descriptor, file.sizeBytes), () => `truncate ${this.#shown(file.path)}`);
      }
      this.#setOpenFileAttributes(file);
      this.#file = undefined;
      succeed(closeFile(file.descriptor), () => `close ${this.#shown(file.path)}`);
    }
  }

  /** Sets the times of the directories, when the archive is complete. */
  complete(): void {
    this.#directories.forget();
    for (const { path, accessed, modified } of this.#directoryTimes) {
      const flags = OpenFlag.ReadOnly | OpenFlag.Directory | OpenFlag.NoFollow;
      const descriptor = openResolved(this.#directories.root.descriptor, path, flags, Resolve.InRoot);
      // A later member may have put something else in its place.
      if (descriptor >= 0) {
        const result = setTimes(descriptor, accessed, modified);
        closeFile(descriptor);
        succeed(result, () => `failed call to UtimesNanoAt for ${this.#shown(path)}`);
      }
    }
  }

  /**
   * The directories of an upper directory that no member describes and no given lower directory has, parents first. If directories come to
   * lie below later, these are to get their attributes from them.
   */
  get implied(): readonly ByteString[] {
    return [...(this.#implied ?? [])];
  }

  /** Closes everything, after success or failure. */
  close(): void {
    if (this.#file !== undefined) {
      closeFile(this.#file.descriptor);
      this.#file = undefined;
    }
    this.#directories.close();
  }

  #make(member: TarMember, path: ByteString, directory: Directory, base: ByteString): void {
    switch (member.type) {
      case MemberType.Regular:
        this.#openFile(member, path, directory, base);
        break;
      case MemberType.Directory:
        this.#makeDirectory(member, path, directory, base);
        break;
      case MemberType.Symlink:
        this.#makeSymlink(member, path, directory, base);
        this.#setNamedAttributes(member, path, directory, base);
        break;
      case MemberType.HardLink:
        this.#makeHardLink(member, path, directory, base);
        this.#setNamedAttributes(member, path, directory, base);
        break;
      case MemberType.Character:
      case MemberType.Block:
      case MemberType.Fifo:
        this.#makeNode(member, path, directory, base);
        this.#setNamedAttributes(member, path, directory, base);
        break;
      default:
        throw new FlotillaError(ErrorKind.Unknown, `unhandled tar header type ${member.type.charCodeAt(0)}`);
    }
  }

  /**
   * Makes something new; what has the name already goes, a whole tree if need be.
   *
   * @param make - Makes it, or answers `-EEXIST`.
   */
  #replace(directory: Directory, base: ByteString, make: () => number, context: () => string): number {
    const made = make();
    if (made !== -Errno.Exists) {
      return succeed(made, context);
    }
    removeTreeAt(directory.descriptor, base);
    this.#directories.expire();
    return succeed(make(), context);
  }

  #openFile(member: TarMember, path: ByteString, directory: Directory, base: ByteString): void {
    const flags = OpenFlag.WriteOnly | OpenFlag.Create | OpenFlag.Exclusive | OpenFlag.NoFollow;
    const mode = member.mode & permissionBits & ~privilegeBits;
    const open = (): number => openAt(directory.descriptor, base, flags, mode);
    const descriptor = this.#replace(directory, base, open, () => `open ${this.#shown(path)}`);
    this.#file = { member, path, directory, descriptor, sizeBytes: 0, endsInHole: false };
  }

  #setOpenFileAttributes({ member, path, directory, descriptor }: OpenFile): void {
    const keepsOwner = directory.passesOnNothing && member.user === this.#ownUser && member.group === this.#ownGroup;
    if (!keepsOwner) {
      this.#checkOwner(changeOwner(descriptor, member.user, member.group), member, path);
    }
    for (const [key, value] of member.attributes) {
      this.#checkAttribute(isTrusted(key) ? -Errno.NotSupported : setAttribute(descriptor, key, value), key, path);
    }
    // An access list among the attributes has changed the mode.
    if (!directory.passesOnNothing || (member.mode & privilegeBits) !== 0 || member.attributes.size > 0) {
      succeed(changeMode(descriptor, member.mode & permissionBits), () => `chmod ${this.#shown(path)}`);
    }
    const { accessed, modified } = timesOf(member);
    this.#checkTimes(setTimes(descriptor, accessed, modified), path);
  }

  #makeDirectory(member: TarMember, path: ByteString, parent: Directory, base: ByteString): void {
    const flags = OpenFlag.ReadOnly | OpenFlag.Directory | OpenFlag.NoFollow;
    const made = makeDirectoryAt(parent.descriptor, base, member.mode & permissionBits);
    let descriptor = made === -Errno.Exists || made === 0 ? openAt(parent.descriptor, base, flags) : made;
    if (descriptor === -Errno.NotDirectory || descriptor === -Errno.Loop) {
      descriptor = this.#replaceByDirectory(parent, base, path, flags);
    }
    succeed(descriptor, () => `mkdir ${this.#shown(path)}`);
    this.#directories.keep(path, descriptor);
    this.#implied?.delete(path);
    this.#checkOwner(changeOwner(descriptor, member.user, member.group), member, path);
    for (const [key, value] of member.attributes) {
      this.#checkAttribute(isTrusted(key) ? -Errno.NotSupported : setAttribute(descriptor, key, value), key, path);
    }
    succeed(changeMode(descriptor, member.mode & permissionBits), () => `chmod ${this.#shown(path)}`);
    this.#directoryTimes.push({ path, ...timesOf(member) });
  }

  /**
   * Puts a directory in the place of something else. In an upper directory that may be the mark of a removal that came earlier in
   * this layer; the new directory then must not show what lower layers have in it.
   */
  #replaceByDirectory(parent: Directory, base: ByteString, path: ByteString, flags: number): number {
    const before = findStatusAt(parent.descriptor, base);
    removeTreeAt(parent.descriptor, base);
    this.#directories.expire();
    const made = makeDirectoryAt(parent.descriptor, base, 0o755);
    succeed(made, () => `mkdir ${this.#shown(path)}`);
    const descriptor = openAt(parent.descriptor, base, flags);
    if (descriptor >= 0 && this.#target.whiteouts === "overlay" && before !== undefined && isOverlayWhiteout(before)) {
      succeed(setAttribute(descriptor, opaqueAttribute, opaqueValue), () => `setxattr ${this.#shown(path)}`);
    }
    return descriptor;
  }

  #makeSymlink(member: TarMember, path: ByteString, directory: Directory, base: ByteString): void {
    const make = (): number => makeSymlinkAt(member.linkName, directory.descriptor, base);
    this.#replace(directory, base, make, () => `symlink ${fromByteString(member.linkName)} ${this.#shown(path)}`);
  }

  #makeHardLink(member: TarMember, path: ByteString, directory: Directory, base: ByteString): void {
    const target = splitPath(member.linkName);
    const context = (): string => `link ${this.#shown(member.linkName)} ${this.#shown(path)}`;
    if (target.base === "" || target.base === "." || target.base === "..") {
      throw new SystemError(Errno.NotPermitted, context());
    }
    const root = this.#directories.root.descriptor;
    const from =
      target.parent === ""
        ? root
        : succeed(openResolved(root, target.parent, OpenFlag.Path | OpenFlag.Directory, Resolve.InRoot), context);
    try {
      const [source, link] = [
        { directory: from, name: target.base },
        { directory: directory.descriptor, name: base },
      ];
      this.#replace(directory, base, () => makeLinkAt(source, link), context);
    } finally {
      if (from !== root) {
        closeFile(from);
      }
    }
  }

  #makeNode(member: TarMember, path: ByteString, directory: Directory, base: ByteString): void {
    const mode = (nodeTypes.get(member.type) ?? 0) | (member.mode & permissionBits);
    const { type, deviceMajor, deviceMinor } = member;
    const context = (): string => `mknod ${this.#shown(path)}`;
    // Beyond 32 bits the system call would be given another device.
    if (isDevice(member) && !isDeviceNumber(deviceMajor, deviceMinor)) {
      throw new SystemError(Errno.Invalid, context());
    }
    const device = type === MemberType.Fifo ? 0n : deviceNumber(deviceMajor, deviceMinor);
    this.#replace(directory, base, () => makeNodeAt(directory.descriptor, base, mode, device), context);
  }

  /** Sets what a member has that is not opened: links and devices. */
  #setNamedAttributes(member: TarMember, path: ByteString, directory: Directory, base: ByteString): void {
    const { descriptor } = directory;
    if (member.type !== MemberType.HardLink || !hasOwner(descriptor, base, member)) {
      this.#checkOwner(changeOwnerAt(descriptor, base, member.user, member.group), member, path);
    }
    for (const [key, value] of member.attributes) {
      const result = isTrusted(key) ? -Errno.NotSupported : setAttributeAt(descriptor, base, key, value);
      // Only regular files and directories can have attributes of users. @source xattr(7)
      if (result !== -Errno.NotPermitted || !key.startsWith("user.") || hasUserAttributes(descriptor, base)) {
        this.#checkAttribute(result, key, path);
      }
    }
    if (member.type !== MemberType.Symlink) {
      const result = changeModeAt(descriptor, base, member.mode & permissionBits);
      // A hard link may be one to a symbolic link.
      if (result !== -Errno.NotSupported) {
        succeed(result, () => `chmod ${this.#shown(path)}`);
      }
    }
    const { accessed, modified } = timesOf(member);
    this.#checkTimes(setTimesAt(descriptor, base, accessed, modified), path);
  }

  #whiteOut(whiteout: Whiteout, directory: Directory, member: TarMember): void {
    if (whiteout.kind === "ignore") {
      return;
    }
    if (this.#brought === undefined) {
      if (whiteout.kind === "opaque") {
        markOpaque(directory.descriptor);
      } else {
        markRemoved(directory.descriptor, whiteout.name, member);
      }
      return;
    }
    this.#directories.expire();
    if (whiteout.kind === "opaque") {
      this.#removeOlder(directory, this.#brought);
    } else {
      this.#removeOlderAt(directory, whiteout.name, this.#brought);
    }
  }

  /** Deletes all in a directory that this layer has not brought. */
  #removeOlder(directory: Directory, brought: ReadonlySet<string>): void {
    for (const name of listDirectory(directory.descriptor)) {
      this.#removeOlderAt(directory, name, brought);
    }
  }

  #removeOlderAt(parent: Directory, name: ByteString, brought: ReadonlySet<string>): void {
    if (!brought.has(broughtName(parent.identity, name))) {
      removeTreeAt(parent.descriptor, name);
      return;
    }
    const flags = OpenFlag.ReadOnly | OpenFlag.Directory | OpenFlag.NoFollow;
    const descriptor = openAt(parent.descriptor, name, flags);
    if (descriptor >= 0) {
      try {
        this.#removeOlder(new Directory(descriptor), brought);
      } finally {
        closeFile(descriptor);
      }
    }
  }

  #checkOwner(result: number, { user, group }: TarMember, path: ByteString): void {
    succeed(result, () => `failed to Lchown ${quote(this.#shown(path))} for UID ${user}, GID ${group}`);
  }

  #checkAttribute(result: number, key: ByteString, path: ByteString): void {
    // A file system without attributes, or one of those that only the machine's owner may set, is no reason to fail.
    if (result !== -Errno.NotSupported) {
      const shownKey = quote(fromByteString(key));
      succeed(result, () => `failed to setxattr ${quote(this.#shown(path))} for key ${shownKey}`);
    }
  }

  #checkTimes(result: number, path: ByteString): void {
    succeed(result, () => `failed call to UtimesNanoAt for ${this.#shown(path)}`);
  }

  #shown(path: ByteString): string {
    return `${this.#target.root}/${fromByteString(path)}`;
  }
}

/** @source linux include/linux/kdev_t.h `MINORBITS` */
function isDeviceNumber(major: number, minor: number): boolean {
  return major >= 0 && major < 2 ** 12 && minor >= 0 && minor < 2 ** 20;
}

function broughtName(identity: string, base: ByteString): string {
  return `${identity}/${base}`;
}

function isDevice({ type }: TarMember): boolean {
  return type === MemberType.Character || type === MemberType.Block;
}

/** Attributes that the kernel itself trusts, such as overlayfs' own, are never taken from an archive. @source containerd v2.3.4 pkg/archive/tar_unix.go `setxattr` */
function isTrusted(key: ByteString): boolean {
  return key.startsWith("trusted.");
}

function hasUserAttributes(directory: number, name: ByteString): boolean {
  const status = findStatusAt(directory, name);
  return status !== undefined && [FileType.Regular, FileType.Directory].some((type) => type === typeOf(status));
}

/** A hard link mostly has its owner already; setting it again would take capabilities away that came with another name. */
function hasOwner(directory: number, name: ByteString, { user, group }: TarMember): boolean {
  const status = findStatusAt(directory, name);
  return status?.user === user && status.group === group;
}

function markOpaque(descriptor: number): void {
  succeed(setAttribute(descriptor, opaqueAttribute, opaqueValue), () => "setxattr");
}

/**
 * Marks a name as removed. What this layer has brought under that name already stays, since a whiteout is about lower layers
 * alone; a directory then hides theirs.
 */
function markRemoved(directory: number, name: ByteString, member: TarMember): void {
  const made = makeNodeAt(directory, name, FileType.Character, 0);
  if (made !== -Errno.Exists) {
    succeed(made, () => "mknod");
    succeed(changeOwnerAt(directory, name, member.user, member.group), () => "chown");
    return;
  }
  const descriptor = openAt(directory, name, OpenFlag.ReadOnly | OpenFlag.Directory | OpenFlag.NoFollow);
  if (descriptor >= 0) {
    try {
      markOpaque(descriptor);
    } finally {
      closeFile(descriptor);
    }
  }
}

function timesOf({ accessed, modified }: TarMember): { readonly accessed: FileTime; readonly modified: FileTime } {
  const latest = accessed === undefined || isBefore(accessed, modified) ? modified : accessed;
  return { accessed: boundTime(latest), modified: boundTime(modified) };
}

function isBefore(left: FileTime, right: FileTime): boolean {
  return left.seconds < right.seconds || (left.seconds === right.seconds && left.nanoseconds < right.nanoseconds);
}

function boundTime(time: FileTime): FileTime {
  return time.seconds < 0 || isBefore(latestTime, time) ? epoch : time;
}
