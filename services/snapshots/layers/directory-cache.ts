import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { joinPath, splitPath } from "#linux/byte-path.ts";
import { asByteString, type ByteString, fromByteString, toByteString } from "#linux/bytes.ts";
import {
  closeFile,
  makeDirectoryAt,
  OpenFlag,
  openAt,
  openResolved,
  Resolve,
  readSymlinkAt,
  succeed,
  workingDirectory,
} from "#linux/file.ts";
import { changeMode } from "#linux/inode.ts";
import { Errno, SystemError } from "#linux/libc.ts";
import { type FileStatus, findStatusAt } from "#linux/stat.ts";
import { findAttributeAt } from "#linux/xattr.ts";
import { cleanLayerPath } from "./layer-path.ts";
import { LowerDirectories } from "./lower-directories.ts";

const itself = asByteString("");
const openDirectory = OpenFlag.ReadOnly | OpenFlag.Directory;
/** Open directories that are kept; members of an archive mostly come directory by directory. */
const keptMax = 64;
/** Links to follow before a path counts as endless. @source containerd/continuity v0.4.5 fs/path.go `walkLink` */
const linksMax = 255;
/** Mode of a directory that the archive does not describe. @source containerd v2.3.4 pkg/archive/tar.go `mkparent` */
const defaultMode = 0o755;

/** An open directory of the tree that is being written. The cache closes it. */
export class Directory {
  readonly descriptor: number;
  #passesOnNothing: boolean | undefined;
  #identity: string | undefined;

  constructor(descriptor: number) {
    this.descriptor = descriptor;
  }

  /** Whether a new file here gets the group of the process and exactly the mode asked for: no setgid bit, no default ACL. */
  get passesOnNothing(): boolean {
    this.#passesOnNothing ??=
      ((findStatusAt(this.descriptor, itself)?.mode ?? setGroupId) & setGroupId) === 0 &&
      findAttributeAt(this.descriptor, itself, defaultAcl) === undefined;
    return this.#passesOnNothing;
  }

  /** The same whatever path led here, and no other's as long as this one is there. */
  get identity(): string {
    if (this.#identity === undefined) {
      const status = findStatusAt(this.descriptor, itself);
      this.#identity = `${status?.deviceMajor}:${status?.deviceMinor}:${status?.inode}`;
    }
    return this.#identity;
  }

  /**
   * Path from the host's root, without symbolic links.
   *
   * @throws {@link SystemError} `ENAMETOOLONG` when it has more bytes than a path may have.
   */
  get realPath(): ByteString {
    return readSymlinkAt(workingDirectory, toByteString(`/proc/self/fd/${this.descriptor}`));
  }
}

/** A directory that was made because a path needs it. */
export interface MadeDirectory {
  /** Cleaned, from the root of the tree. */
  readonly path: ByteString;
  readonly parent: Directory;
  readonly base: ByteString;
  /** The status of its model in the lower trees. */
  readonly lower: FileStatus | undefined;
}

const setGroupId = 0o2000;
/** @source acl(5), linux/posix_acl_xattr.h */
const defaultAcl = toByteString("system.posix_acl_default");

/**
 * The directories of a tree, opened by their path and kept open for a while.
 *
 * Every path is resolved by the kernel with the tree as its root, so that neither `..` nor symbolic links nor somebody who moves
 * things about meanwhile lead out of it. Missing directories are made.
 */
export class DirectoryCache {
  readonly root: Directory;
  readonly #kept = new Map<ByteString, Directory>();
  #expired = false;
  readonly #lowers: LowerDirectories;
  readonly #onMade: (made: MadeDirectory) => void;

  /**
   * @param root - Path of the tree.
   * @param lowers - Trees below this one in an overlay, topmost first; a directory that is missing here gets its attributes from them.
   * @param onMade - Told of every directory that was made because a path needs it.
   */
  constructor(root: ByteString, lowers: readonly ByteString[], onMade: (made: MadeDirectory) => void) {
    this.root = new Directory(
      succeed(openAt(workingDirectory, root, openDirectory), () => `open ${fromByteString(root)}`),
    );
    this.#lowers = new LowerDirectories(lowers);
    this.#onMade = onMade;
  }

  /**
   * The directory at a cleaned path, made with its parents where missing. It stays open until {@link trim} or {@link forget}.
   *
   * @throws {@link SystemError} `ENOTDIR` when something else is there.
   */
  get(path: ByteString, linksFollowed = 0): Directory {
    if (path === "") {
      return this.root;
    }
    const kept = this.#kept.get(path);
    if (kept !== undefined) {
      return kept;
    }
    const opened = openResolved(this.root.descriptor, path, openDirectory, Resolve.InRoot);
    if (opened >= 0) {
      return this.keep(path, opened);
    }
    if (opened === -Errno.Loop) {
      throw tooManyLinks();
    }
    if (opened !== -Errno.NoEntry) {
      throw new SystemError(-opened, `mkparent ${this.#shown(path)}`);
    }
    return this.#make(path, linksFollowed);
  }

  /** Takes over an open directory, which is at this path. */
  keep(path: ByteString, descriptor: number): Directory {
    const directory = new Directory(descriptor);
    const before = this.#kept.get(path);
    if (before !== undefined) {
      closeFile(before.descriptor);
    }
    this.#kept.set(path, directory);
    return directory;
  }

  /** Says that a directory or symbolic link has been removed, so that paths may mean others from the next {@link trim} on. */
  expire(): void {
    this.#expired = true;
  }

  /** Closes what is too much or out of date; to be called when no directory is in use. */
  trim(): void {
    if (this.#expired || this.#kept.size > keptMax) {
      this.forget();
    }
  }

  /** Closes all directories but the root. */
  forget(): void {
    for (const { descriptor } of this.#kept.values()) {
      closeFile(descriptor);
    }
    this.#kept.clear();
    this.#expired = false;
  }

  /** Closes everything. */
  close(): void {
    this.forget();
    this.#lowers.close();
    closeFile(this.root.descriptor);
  }

  #make(path: ByteString, linksFollowed: number): Directory {
    const { parent, base } = splitPath(path);
    const above = this.get(parent, linksFollowed);
    const made = makeDirectoryAt(above.descriptor, base, defaultMode);
    if (made === -Errno.Exists) {
      return this.#followDangling(above, base, linksFollowed);
    }
    succeed(made, () => `mkdir ${this.#shown(path)}`);
    const descriptor = succeed(
      openAt(above.descriptor, base, openDirectory | OpenFlag.NoFollow),
      () => `open ${this.#shown(path)}`,
    );
    const directory = this.keep(path, descriptor);
    succeed(changeMode(descriptor, defaultMode), () => `chmod ${this.#shown(path)}`);
    this.#onMade({ path, parent: above, base, lower: this.#lowers.copyAttributes(path, descriptor) });
    this.#letGo(parent);
    return directory;
  }

  /** Closes one directory if there are too many, so that a path of thousands of new parts does not take as many descriptors. */
  #letGo(path: ByteString): void {
    const directory = this.#kept.size > keptMax ? this.#kept.get(path) : undefined;
    if (directory !== undefined) {
      closeFile(directory.descriptor);
      this.#kept.delete(path);
    }
  }

  /** A symbolic link whose target does not exist yet: the target is what has to be made. */
  #followDangling(above: Directory, base: ByteString, linksFollowed: number): Directory {
    if (linksFollowed >= linksMax) {
      throw tooManyLinks();
    }
    const target = readSymlinkAt(above.descriptor, base);
    const inside = asByteString(above.realPath.slice(this.root.realPath.length));
    const path = target.startsWith("/") ? target : joinPath(inside, target);
    return this.get(cleanLayerPath(path), linksFollowed + 1);
  }

  #shown(path: ByteString): string {
    return fromByteString(joinPath(this.root.realPath, path));
  }
}

/** @source containerd/continuity v0.4.5 fs/path.go `errTooManyLinks` */
function tooManyLinks(): FlotillaError {
  return new FlotillaError(ErrorKind.Unknown, "failed to get root path: too many links");
}
