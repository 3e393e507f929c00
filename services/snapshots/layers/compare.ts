import { joinPath } from "#linux/byte-path.ts";
import { asByteString, type ByteString, toByteString } from "#linux/bytes.ts";
import { listDirectory } from "#linux/directory.ts";
import { closeFile, OpenFlag, openAt, readSymlinkAt, succeed, workingDirectory } from "#linux/file.ts";
import { Errno, SystemError } from "#linux/libc.ts";
import { pathBytesMax } from "#linux/path-memory.ts";
import { type FileStatus, FileType, findStatusAt, typeOf } from "#linux/stat.ts";
import { findAttributeAt, listAttributesAt } from "#linux/xattr.ts";
import type { Change } from "./change.ts";
import { sameContent } from "./content.ts";

import { opaqueAttribute, userOpaqueAttribute } from "./whiteout.ts";

/** Two trees to compare. */
export interface ComparedTrees {
  /** The older tree. */
  readonly lower: string;
  /** The newer tree. */
  readonly upper: string;
  /**
   * The upper directory of the overlay that `upper` shows, if `lower` shows exactly the layers below it. Directories in which nothing
   * was changed are then passed over without being looked at.
   */
  readonly overlayUpper: string | undefined;
}

const itself = asByteString("");
const capabilityAttribute = toByteString("security.capability");
const redirectAttributes = [toByteString("trusted.overlay.redirect"), toByteString("user.overlay.redirect")];

/** A directory that is being compared, open in the trees that have it. */
interface Level {
  readonly path: ByteString;
  readonly lower: number | undefined;
  readonly upper: number;
  /** Its part of the overlay's upper directory. Undefined when all names have to be compared. */
  readonly overlay: number | undefined;
  /** Names to look at, sorted. */
  readonly names: readonly ByteString[];
  next: number;
}

/**
 * Finds the differences between two trees, in the order of their paths, directories before what is in them.
 *
 * Files count as the same when owner, mode, device, capabilities, size and time of modification are; content is read only where both
 * times have no fraction of a second, since an archive may have cut it off. A directory counts as the same whatever its time.
 *
 * What an overlay knows saves looking at unchanged directories but never decides anything: every name that its upper directory
 * mentions is compared in the two trees.
 *
 * @throws {@link SystemError}, also for trees that are deeper than any path.
 * @source containerd/continuity v0.4.5 fs/diff.go `doubleWalkDiff`, path.go `sameFile`
 */
export function* compareTrees({ lower, upper, overlayUpper }: ComparedTrees): Generator<Change> {
  const levels: Level[] = [];
  try {
    levels.push(
      openLevel(itself, (own) => ({
        lower: own(openRoot(lower)),
        upper: own(openRoot(upper)),
        overlay: overlayUpper === undefined ? undefined : own(openRoot(overlayUpper)),
      })),
    );
    for (let level = levels.at(-1); level !== undefined; level = levels.at(-1)) {
      const name = level.names[level.next];
      level.next += 1;
      if (name === undefined) {
        levels.pop();
        closeLevel(level);
      } else {
        const below = yield* compareName(level, name);
        if (below !== undefined) {
          levels.push(below);
        }
      }
    }
  } finally {
    levels.forEach(closeLevel);
  }
}

function* compareName(level: Level, name: ByteString): Generator<Change, Level | undefined> {
  const path = joinPath(level.path, name);
  if (path.length >= pathBytesMax) {
    throw new SystemError(Errno.NameTooLong, `lstat ${path.slice(0, 100)}...`);
  }
  const before = level.lower === undefined ? undefined : findStatusAt(level.lower, name);
  const status = findStatusAt(level.upper, name);
  if (status === undefined) {
    if (before !== undefined) {
      yield { kind: "delete", path };
    }
    return undefined;
  }
  if (before === undefined || level.lower === undefined) {
    yield { kind: "write", path, status };
    return typeOf(status) === FileType.Directory ? descend(level, name, path, false) : undefined;
  }
  const isDirectory = typeOf(status) === FileType.Directory;
  if (!isSame({ directory: level.lower, status: before }, { directory: level.upper, status }, name)) {
    yield { kind: "write", path, status };
  } else if (!isDirectory && status.links > 1) {
    yield { kind: "unchanged", path, status };
  }
  return isDirectory ? descend(level, name, path, typeOf(before) === FileType.Directory) : undefined;
}

function descend(level: Level, name: ByteString, path: ByteString, isInLower: boolean): Level {
  return openLevel(path, (own) => {
    // What is new has to be seen in full.
    const overlay = isInLower && level.overlay !== undefined ? openOverlayBelow(level.overlay, name) : undefined;
    return {
      overlay: overlay === undefined ? undefined : own(overlay),
      lower: isInLower && level.lower !== undefined ? own(openBelow(level.lower, name)) : undefined,
      upper: own(openBelow(level.upper, name)),
    };
  });
}

/** The same directory in each tree. */
interface OpenedTrees {
  readonly lower: number | undefined;
  readonly upper: number;
  readonly overlay: number | undefined;
}

/** @param open - Opens the directories, and hands each to the function it is given, which closes it if a later step fails. */
function openLevel(path: ByteString, open: (own: (descriptor: number) => number) => OpenedTrees): Level {
  using opened = new DisposableStack();
  const { lower, upper, overlay } = open((descriptor) => opened.adopt(descriptor, closeFile));
  const mentioned =
    overlay === undefined
      ? [...(lower === undefined ? [] : listDirectory(lower)), ...listDirectory(upper)]
      : listDirectory(overlay);
  opened.move();
  return { path, lower, upper, overlay, names: [...new Set(mentioned)].sort(compareBytes), next: 0 };
}

function closeLevel({ lower, upper, overlay }: Level): void {
  for (const descriptor of [lower, upper, overlay]) {
    if (descriptor !== undefined) {
      closeFile(descriptor);
    }
  }
}

function compareBytes(left: ByteString, right: ByteString): number {
  return left < right ? -1 : Number(left > right);
}

const directoryFlags = OpenFlag.ReadOnly | OpenFlag.Directory;

function openRoot(path: string): number {
  return succeed(openAt(workingDirectory, toByteString(path), directoryFlags), () => `open ${path}`);
}

function openBelow(directory: number, name: ByteString): number {
  return succeed(openAt(directory, name, directoryFlags | OpenFlag.NoFollow), () => `open ${name}`);
}

/** Opens a directory of an upper directory, unless overlayfs shows something else in its place than it and the one below. */
function openOverlayBelow(directory: number, name: ByteString): number | undefined {
  const opened = openAt(directory, name, directoryFlags | OpenFlag.NoFollow);
  if (opened < 0) {
    return undefined;
  }
  const special = [opaqueAttribute, userOpaqueAttribute, ...redirectAttributes];
  const attributes = listAttributesAt(opened, itself);
  if (special.some((attribute) => attributes.includes(attribute))) {
    closeFile(opened);
    return undefined;
  }
  return opened;
}

interface Side {
  readonly directory: number;
  readonly status: FileStatus;
}

function isSame(left: Side, right: Side, name: ByteString): boolean {
  const [before, after] = [left.status, right.status];
  if (isSameInode(before, after)) {
    return true;
  }
  if (
    before.mode !== after.mode ||
    before.user !== after.user ||
    before.group !== after.group ||
    before.nodeMajor !== after.nodeMajor ||
    before.nodeMinor !== after.nodeMinor ||
    !hasSameCapabilities(left, right, name)
  ) {
    return false;
  }
  return typeOf(after) === FileType.Directory || hasSameData(left, right, name);
}

function isSameInode(left: FileStatus, right: FileStatus): boolean {
  return left.inode === right.inode && left.deviceMajor === right.deviceMajor && left.deviceMinor === right.deviceMinor;
}

function hasSameCapabilities(left: Side, right: Side, name: ByteString): boolean {
  const none = Buffer.alloc(0);
  const before = findAttributeAt(left.directory, name, capabilityAttribute) ?? none;
  const after = findAttributeAt(right.directory, name, capabilityAttribute) ?? none;
  return before.equals(after);
}

function hasSameData(left: Side, right: Side, name: ByteString): boolean {
  const [before, after] = [left.status, right.status];
  if (before.sizeBytes !== after.sizeBytes || before.modified.seconds !== after.modified.seconds) {
    return false;
  }
  if (before.modified.nanoseconds !== 0 || after.modified.nanoseconds !== 0) {
    return before.modified.nanoseconds === after.modified.nanoseconds;
  }
  switch (typeOf(after)) {
    case FileType.Symlink:
      return readSymlinkAt(left.directory, name) === readSymlinkAt(right.directory, name);
    case FileType.Regular:
      return before.sizeBytes === 0 || sameContent(left.directory, right.directory, name);
    default:
      return true;
  }
}
