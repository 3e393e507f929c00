import { ErrorKind, FlotillaError, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { splitPath } from "#linux/byte-path.ts";
import { type ByteString, fromByteString, toByteString } from "#linux/bytes.ts";
import { removeTreeAt } from "#linux/directory.ts";
import {
  closeFile,
  deviceNumber,
  makeDirectoryAt,
  makeLinkAt,
  makeNodeAt,
  makeSymlinkAt,
  OpenFlag,
  openAt,
  openResolved,
  Resolve,
  succeed,
} from "#linux/file.ts";
import { type FileTime, setTimes } from "#linux/inode.ts";
import { Errno, SystemError } from "#linux/libc.ts";
import { inUserNamespace } from "#linux/process.ts";
import { findStatusAt } from "#linux/stat.ts";
import { setAttribute } from "#linux/xattr.ts";
import { MemberType, type TarMember } from "#tar/tar-format.ts";
import type { TarSink } from "#tar/tar-sink.ts";
import { type Directory, DirectoryCache } from "./directory-cache.ts";
import { cleanLayerPath } from "./layer-path.ts";
import { MemberAttributes, type OpenedMember, permissionBits, privilegeBits, timesOf } from "./member-attributes.ts";
import { isDevice, isDeviceNumber, nodeTypes } from "./member-nodes.ts";
import { broughtName, markWhiteout, removeOlder } from "./removals.ts";
import { findWhiteout, isOverlayWhiteout, opaqueAttribute, opaqueValue } from "./whiteout.ts";
import { WrittenFile } from "./written-file.ts";

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

/** A regular file whose content is being written. */
interface OpenFile extends OpenedMember {
  readonly written: WrittenFile;
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
  readonly #attributes: MemberAttributes;
  /** Directories get their times at the end, since every file that is made in one changes them. */
  readonly #directoryTimes: { readonly path: ByteString; readonly accessed: FileTime; readonly modified: FileTime }[] =
    [];
  /** What this layer has brought, which its own whiteouts do not hide, as {@link broughtName}. Kept for `remove` alone. */
  readonly #brought: Set<string> | undefined;
  /** Directories that were made because a path needs them, and had no model in lower trees. Kept for `overlay` alone. */
  readonly #implied: Set<ByteString> | undefined;
  #file: OpenFile | undefined;

  constructor(target: ExtractionTarget) {
    this.#target = target;
    this.#attributes = new MemberAttributes(target.root);
    this.#brought = target.whiteouts === "remove" ? new Set() : undefined;
    this.#implied = target.whiteouts === "overlay" ? new Set() : undefined;
    this.#directories = new DirectoryCache(
      toByteString(target.root),
      target.lowers.map(toByteString),
      ({ path, parent, base, lower }) => {
        this.#brought?.add(broughtName(parent, base));
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
        if (this.#brought === undefined) {
          markWhiteout(whiteout, directory, member);
        } else if (whiteout.kind !== "ignore") {
          this.#directories.expire();
          removeOlder(whiteout, directory, this.#brought);
        }
      } catch (error) {
        throw wrapFailure(error, `failed to convert whiteout file ${quote(fromByteString(path))}`);
      }
      return;
    }
    this.#make(member, path, directory, base);
    this.#brought?.add(broughtName(directory, base));
  }

  content(data: Buffer): void {
    this.#file?.written.write(data);
  }

  hole(sizeBytes: number): void {
    this.#file?.written.skip(sizeBytes);
  }

  finish(): void {
    const file = this.#file;
    if (file !== undefined) {
      file.written.finish();
      this.#attributes.setOfFile(file);
      this.#file = undefined;
      file.written.close();
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
    this.#file?.written.abandon();
    this.#file = undefined;
    this.#directories.close();
  }

  #make(member: TarMember, path: ByteString, directory: Directory, base: ByteString): void {
    switch (member.type) {
      case MemberType.Regular:
        this.#openFile(member, path, directory, base);
        return;
      case MemberType.Directory:
        this.#makeDirectory(member, path, directory, base);
        return;
      case MemberType.Symlink:
        this.#makeSymlink(member, path, directory, base);
        break;
      case MemberType.HardLink:
        this.#makeHardLink(member, path, directory, base);
        break;
      case MemberType.Character:
      case MemberType.Block:
      case MemberType.Fifo:
        this.#makeNode(member, path, directory, base);
        break;
      default:
        throw new FlotillaError(ErrorKind.Unknown, `unhandled tar header type ${member.type.charCodeAt(0)}`);
    }
    this.#attributes.setOfNamed(member, path, directory.descriptor, base);
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
    const written = new WrittenFile(descriptor, () => this.#shown(path));
    this.#file = { member, path, directory, descriptor, written };
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
    this.#attributes.setOfDirectory(member, path, descriptor);
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

  #shown(path: ByteString): string {
    return `${this.#target.root}/${fromByteString(path)}`;
  }
}
