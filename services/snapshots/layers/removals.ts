import type { ByteString } from "#linux/bytes.ts";
import { listDirectory, removeTreeAt } from "#linux/directory.ts";
import { closeFile, makeNodeAt, OpenFlag, openAt, succeed } from "#linux/file.ts";
import { changeOwnerAt } from "#linux/inode.ts";
import { Errno } from "#linux/libc.ts";
import { FileType } from "#linux/stat.ts";
import { setAttribute } from "#linux/xattr.ts";
import type { TarMember } from "#tar/tar-format.ts";
import { Directory } from "./directory-cache.ts";
import { opaqueAttribute, opaqueValue, type Whiteout } from "./whiteout.ts";

/**
 * Writes a removal into an upper directory, as overlayfs marks it.
 *
 * @source containerd v2.3.4 pkg/archive/tar_opts_linux.go `OverlayConvertWhiteout`
 */
export function markWhiteout(whiteout: Whiteout, { descriptor }: Directory, member: TarMember): void {
  if (whiteout.kind === "opaque") {
    markOpaque(descriptor);
  } else if (whiteout.kind === "remove") {
    markRemoved(descriptor, whiteout.name, member);
  }
}

/** Names something that a layer has brought: a name in the directory with this identity. */
export function broughtName({ identity }: Directory, base: ByteString): string {
  return `${identity}/${base}`;
}

/**
 * Carries a removal out where the whole file system is seen.
 *
 * @param brought - What this layer has brought, as {@link broughtName}, which stays: a removal is about lower layers alone.
 * @source containerd v2.3.4 pkg/archive/tar.go `applyNaive`
 */
export function removeOlder(
  whiteout: Exclude<Whiteout, { kind: "ignore" }>,
  directory: Directory,
  brought: ReadonlySet<string>,
): void {
  if (whiteout.kind === "opaque") {
    removeOlderIn(directory, brought);
  } else {
    removeOlderAt(directory, whiteout.name, brought);
  }
}

function removeOlderIn(directory: Directory, brought: ReadonlySet<string>): void {
  for (const name of listDirectory(directory.descriptor)) {
    removeOlderAt(directory, name, brought);
  }
}

function removeOlderAt(parent: Directory, name: ByteString, brought: ReadonlySet<string>): void {
  if (!brought.has(broughtName(parent, name))) {
    removeTreeAt(parent.descriptor, name);
    return;
  }
  const flags = OpenFlag.ReadOnly | OpenFlag.Directory | OpenFlag.NoFollow;
  const descriptor = openAt(parent.descriptor, name, flags);
  if (descriptor >= 0) {
    try {
      removeOlderIn(new Directory(descriptor), brought);
    } finally {
      closeFile(descriptor);
    }
  }
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
