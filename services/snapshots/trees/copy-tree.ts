import { joinPath, splitPath } from "#linux/byte-path.ts";
import { asByteString, type ByteString, toByteString } from "#linux/bytes.ts";
import { listDirectory } from "#linux/directory.ts";
import { DirectoryPath } from "#linux/directory-path.ts";
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
  readSymlinkAt,
  succeed,
  workingDirectory,
} from "#linux/file.ts";
import { copyContent } from "#linux/file-data.ts";
import { changeModeAt, changeOwnerAt, setTimesAt } from "#linux/inode.ts";
import { Errno, SystemError } from "#linux/libc.ts";
import { type FileStatus, FileType, findStatusAt, typeOf } from "#linux/stat.ts";
import { findAttributeAt, listAttributesAt, setAttributeAt } from "#linux/xattr.ts";

const itself = asByteString("");
const permissionBits = 0o7777;

/** A directory that is being copied. */
interface Level {
  readonly path: ByteString;
  readonly status: FileStatus;
  /** Subdirectories that are still to be copied. */
  readonly unseen: ByteString[];
}

/**
 * Copies what is in a directory, and the directory's own attributes, into an existing directory that is empty: owner, mode, times to the
 * nanosecond, extended attributes, hard links within the tree, devices, pipes, sockets, holes. Blocks are shared where the file
 * system can. What is mounted in the source is not entered.
 *
 * Nobody changes either of them meanwhile; a source that changes all the same makes the copy fail or differ, and never leads out of
 * the two trees. The umask must be 0, the process root. Makes system calls without a pause, for a thread of its own.
 *
 * @throws {@link SystemError}; the target is then incomplete. `ENAMETOOLONG` for a hard link to what is deeper than any path.
 */
export function copyTree(source: string, target: string): undefined {
  using from = new DirectoryPath(source);
  using to = new DirectoryPath(target);
  using links = new CopiedLinks(target);
  const open = (path: ByteString): Level => {
    const status = requireStatus(from.descriptor, itself);
    const unseen: ByteString[] = [];
    for (const name of listDirectory(from.descriptor)) {
      const entry = { from: from.descriptor, to: to.descriptor, name, path: joinPath(path, name) };
      if (copyEntry(entry, links)) {
        unseen.push(name);
      }
    }
    return { path, status, unseen };
  };
  const levels = [open(itself)];
  for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
    const name = level.unseen.pop();
    if (name !== undefined) {
      if (!from.enter(name) || !to.enter(name)) {
        throw new SystemError(Errno.NotDirectory, `open ${name}`);
      }
      levels.push(open(joinPath(level.path, name)));
      continue;
    }
    // After what is in it, which changes its times.
    copyAttributes({ from: from.descriptor, to: to.descriptor, name: itself }, level.status);
    levels.pop();
    if (levels.length > 0 && !(from.leave() && to.leave())) {
      throw new SystemError(Errno.NoEntry, `open .. in ${source}`);
    }
  }
}

/** The same name in the two trees. */
interface Entry {
  readonly from: number;
  readonly to: number;
  readonly name: ByteString;
}

/** Copies one entry; of a directory only itself, and without attributes. @returns Whether it is a directory to enter. */
function copyEntry(entry: Entry & { readonly path: ByteString }, links: CopiedLinks): boolean {
  const { from, to, name } = entry;
  const status = requireStatus(from, name);
  const type = typeOf(status);
  if (type === FileType.Directory) {
    succeed(makeDirectoryAt(to, name, 0o700), () => `mkdir ${name}`);
    return true;
  }
  if (status.links > 1 && links.link(status.inode, entry)) {
    return false;
  }
  if (type === FileType.Regular) {
    copyFile(entry, status);
  } else if (type === FileType.Symlink) {
    succeed(makeSymlinkAt(readSymlinkAt(from, name), to, name), () => `symlink ${name}`);
  } else {
    const device = deviceNumber(status.nodeMajor, status.nodeMinor);
    succeed(makeNodeAt(to, name, type | 0o600, device), () => `mknod ${name}`);
  }
  copyAttributes(entry, status);
  return false;
}

function copyFile({ from, to, name }: Entry, { sizeBytes }: FileStatus): void {
  const context = (): string => `copy ${name}`;
  const source = succeed(openAt(from, name, OpenFlag.ReadOnly | OpenFlag.NoFollow | OpenFlag.NonBlocking), context);
  try {
    const flags = OpenFlag.WriteOnly | OpenFlag.Create | OpenFlag.Exclusive | OpenFlag.NoFollow;
    const copy = succeed(openAt(to, name, flags, 0o600), context);
    try {
      copyContent(source, copy, sizeBytes, context);
    } finally {
      closeFile(copy);
    }
  } finally {
    closeFile(source);
  }
}

/** Owner first, since changing it takes setuid bits and capabilities away; times last. */
function copyAttributes({ from, to, name }: Entry, status: FileStatus): void {
  // A directory itself is reached as `.`, since not every call takes an empty name.
  const target = name === itself ? asByteString(".") : name;
  succeed(changeOwnerAt(to, target, status.user, status.group), () => `chown ${name}`);
  if (typeOf(status) !== FileType.Symlink) {
    succeed(changeModeAt(to, target, status.mode & permissionBits), () => `chmod ${name}`);
  }
  for (const key of listAttributesAt(from, name)) {
    const value = findAttributeAt(from, name, key);
    if (value !== undefined) {
      succeed(setAttributeAt(to, name, key, value), () => `setxattr ${key} of ${name}`);
    }
  }
  succeed(setTimesAt(to, target, status.accessed, status.modified), () => `utimensat ${name}`);
}

/** The files with several names that have been copied. */
class CopiedLinks implements Disposable {
  readonly #root: number;
  /** Path of the copy by the inode of the source. */
  readonly #paths = new Map<bigint, ByteString>();

  constructor(root: string) {
    const flags = OpenFlag.Path | OpenFlag.Directory;
    this.#root = succeed(openAt(workingDirectory, toByteString(root), flags), () => `open ${root}`);
  }

  /** Makes the entry another name of an earlier copy; or takes note of it as the first, which is then to be copied. */
  link(inode: bigint, { to, name, path }: Entry & { readonly path: ByteString }): boolean {
    const first = this.#paths.get(inode);
    if (first === undefined) {
      this.#paths.set(inode, path);
      return false;
    }
    const context = (): string => `link ${first} ${path}`;
    const { parent, base } = splitPath(first);
    const flags = OpenFlag.Path | OpenFlag.Directory;
    const directory =
      parent === itself ? this.#root : succeed(openResolved(this.#root, parent, flags, Resolve.NoSymlinks), context);
    try {
      succeed(makeLinkAt({ directory, name: base }, { directory: to, name }), context);
    } finally {
      if (directory !== this.#root) {
        closeFile(directory);
      }
    }
    return true;
  }

  [Symbol.dispose](): void {
    closeFile(this.#root);
  }
}

function requireStatus(directory: number, name: ByteString): FileStatus {
  const status = findStatusAt(directory, name);
  if (status === undefined) {
    throw new SystemError(Errno.NoEntry, `lstat ${name}`);
  }
  return status;
}
