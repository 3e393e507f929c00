import { quote } from "#base/quote.ts";
import { type ByteString, fromByteString } from "#linux/bytes.ts";
import { succeed } from "#linux/file.ts";
import {
  changeMode,
  changeModeAt,
  changeOwner,
  changeOwnerAt,
  type FileTime,
  setTimes,
  setTimesAt,
} from "#linux/inode.ts";
import { Errno } from "#linux/libc.ts";
import { FileType, findStatusAt, typeOf } from "#linux/stat.ts";
import { setAttribute, setAttributeAt } from "#linux/xattr.ts";
import { MemberType, type TarMember } from "#tar/tar-format.ts";
import type { Directory } from "./directory-cache.ts";

/** The bits of a mode that a member of an archive may have. */
export const permissionBits = 0o7777;
/** Setuid and setgid, which a change of owner clears. */
export const privilegeBits = 0o6000;
const epoch: FileTime = { seconds: 0, nanoseconds: 0 };
/** Last time that can be set, the largest number of nanoseconds in 63 bits; later ones become the epoch. @source containerd v2.3.4 pkg/archive/time.go `boundTime` */
const latestTime: FileTime = { seconds: 9_223_372_036, nanoseconds: 854_775_807 };

/** A regular file that is open. */
export interface OpenedMember {
  readonly member: TarMember;
  readonly path: ByteString;
  readonly directory: Directory;
  readonly descriptor: number;
}

/**
 * Gives files what the archive says of them besides their content: owners, extended attributes, modes and times, in this order, since a change of
 * owner takes set-id bits and capabilities away.
 *
 * @source containerd v2.3.4 pkg/archive/tar.go `createTarFile`
 */
export class MemberAttributes {
  readonly #root: string;
  readonly #ownUser = process.geteuid?.() ?? -1;
  readonly #ownGroup = process.getegid?.() ?? -1;

  /** @param root - Of the tree, for messages. */
  constructor(root: string) {
    this.#root = root;
  }

  /** Sets what a regular file has that a new one has not: owner and mode only if they differ. */
  setOfFile({ member, path, directory, descriptor }: OpenedMember): void {
    const keepsOwner = directory.passesOnNothing && member.user === this.#ownUser && member.group === this.#ownGroup;
    if (!keepsOwner) {
      this.#checkOwner(changeOwner(descriptor, member.user, member.group), member, path);
    }
    this.#setAttributes(member, path, descriptor);
    // An access list among the attributes has changed the mode.
    if (!directory.passesOnNothing || (member.mode & privilegeBits) !== 0 || member.attributes.size > 0) {
      succeed(changeMode(descriptor, member.mode & permissionBits), () => `chmod ${this.#shown(path)}`);
    }
    const { accessed, modified } = timesOf(member);
    this.#checkTimes(setTimes(descriptor, accessed, modified), path);
  }

  /** Sets what a directory has, but for its times: every file that is made in it changes them. */
  setOfDirectory(member: TarMember, path: ByteString, descriptor: number): void {
    this.#checkOwner(changeOwner(descriptor, member.user, member.group), member, path);
    this.#setAttributes(member, path, descriptor);
    succeed(changeMode(descriptor, member.mode & permissionBits), () => `chmod ${this.#shown(path)}`);
  }

  /** Sets what a member has that is not opened: links and devices. */
  setOfNamed(member: TarMember, path: ByteString, directory: number, base: ByteString): void {
    if (member.type !== MemberType.HardLink || !hasOwner(directory, base, member)) {
      this.#checkOwner(changeOwnerAt(directory, base, member.user, member.group), member, path);
    }
    for (const [key, value] of member.attributes) {
      const result = isTrusted(key) ? -Errno.NotSupported : setAttributeAt(directory, base, key, value);
      // Only regular files and directories can have attributes of users. @source xattr(7)
      if (result !== -Errno.NotPermitted || !key.startsWith("user.") || hasUserAttributes(directory, base)) {
        this.#checkAttribute(result, key, path);
      }
    }
    if (member.type !== MemberType.Symlink) {
      const result = changeModeAt(directory, base, member.mode & permissionBits);
      // A hard link may be one to a symbolic link.
      if (result !== -Errno.NotSupported) {
        succeed(result, () => `chmod ${this.#shown(path)}`);
      }
    }
    const { accessed, modified } = timesOf(member);
    this.#checkTimes(setTimesAt(directory, base, accessed, modified), path);
  }

  #setAttributes({ attributes }: TarMember, path: ByteString, descriptor: number): void {
    for (const [key, value] of attributes) {
      this.#checkAttribute(isTrusted(key) ? -Errno.NotSupported : setAttribute(descriptor, key, value), key, path);
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
    return `${this.#root}/${fromByteString(path)}`;
  }
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

/** The times that a member gets: it was not read before it was written. */
export function timesOf({ accessed, modified }: TarMember): {
  readonly accessed: FileTime;
  readonly modified: FileTime;
} {
  const latest = accessed === undefined || isBefore(accessed, modified) ? modified : accessed;
  return { accessed: boundTime(latest), modified: boundTime(modified) };
}

function isBefore(left: FileTime, right: FileTime): boolean {
  return left.seconds < right.seconds || (left.seconds === right.seconds && left.nanoseconds < right.nanoseconds);
}

function boundTime(time: FileTime): FileTime {
  return time.seconds < 0 || isBefore(latestTime, time) ? epoch : time;
}
