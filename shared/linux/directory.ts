import { readdirSync } from "node:fs";
import { asByteString, type ByteString, toByteString } from "./bytes.ts";
import {
  closeFile,
  OpenFlag,
  openAt,
  openResolved,
  type Place,
  Resolve,
  removeDirectoryAt,
  removeFileAt,
  renameAt,
  succeed,
  workingDirectory,
} from "./file.ts";
import { Errno, SystemError } from "./libc.ts";

/** Opens a directory for as long as it is used. @throws {@link SystemError} */
export function withDirectory<T>(path: string, use: (descriptor: number) => T): T {
  const flags = OpenFlag.ReadOnly | OpenFlag.Directory;
  const descriptor = succeed(openAt(workingDirectory, toByteString(path), flags), () => `open ${path}`);
  try {
    return use(descriptor);
  } finally {
    closeFile(descriptor);
  }
}

/** The names in an open directory, in no order. @throws Error of `node:fs`. */
export function listDirectory(directory: number): ByteString[] {
  return readdirSync(`/proc/self/fd/${directory}`, { encoding: "latin1" }).map(asByteString);
}

/** How deep a tree is descended with one descriptor a level, before its lower parts are moved up. */
const depthMax = 100;

/**
 * Removes a file or a whole directory tree. What is not there is no error.
 *
 * Symbolic links are never followed, not even ones that appear meanwhile, and what is mounted in the tree is not entered. Trees deeper than any path are removed too: their
 * lower parts are moved up inside the tree first.
 *
 * @throws {@link SystemError} with a part of the tree left.
 */
export function removeTreeAt(directory: number, name: ByteString): void {
  const removed = removeFileAt(directory, name);
  if (removed === 0 || removed === -Errno.NoEntry) {
    return;
  }
  if (removed !== -Errno.IsDirectory && removed !== -Errno.NotPermitted) {
    throw new SystemError(-removed, `unlinkat ${name}`);
  }
  removeDirectoryTree({ directory, name });
}

function openDirectoryAt({ directory, name }: Place): number {
  return openResolved(
    directory,
    name,
    OpenFlag.ReadOnly | OpenFlag.Directory | OpenFlag.NoFollow,
    Resolve.NoCrossing | Resolve.NoSymlinks,
  );
}

function removeDirectoryTree(top: Place): void {
  const opened = openDirectoryAt(top);
  if (opened === -Errno.NoEntry) {
    return;
  }
  const root = succeed(opened, () => `openat ${top.name}`);
  try {
    // What was too deep is moved to the root of the tree and found there in the next round.
    while (emptyDirectory(root, { root, depth: 0 })) {
      continue;
    }
  } finally {
    closeFile(root);
  }
  const removed = removeDirectoryAt(top.directory, top.name);
  if (removed !== -Errno.NoEntry) {
    succeed(removed, () => `unlinkat ${top.name}`);
  }
}

interface Descent {
  readonly root: number;
  readonly depth: number;
}

let movedCount = 0;

/** Removes all in a directory; answers whether something was moved to the root of the tree instead. */
function emptyDirectory(directory: number, descent: Descent): boolean {
  let moved = false;
  for (const name of listDirectory(directory)) {
    const removed = removeFileAt(directory, name);
    if (removed === 0 || removed === -Errno.NoEntry) {
      continue;
    }
    if (removed !== -Errno.IsDirectory && removed !== -Errno.NotPermitted) {
      throw new SystemError(-removed, `unlinkat ${name}`);
    }
    moved = removeSubdirectory({ directory, name }, descent) || moved;
  }
  return moved;
}

function removeSubdirectory(place: Place, { root, depth }: Descent): boolean {
  const { directory, name } = place;
  if (depth >= depthMax) {
    movedCount += 1;
    const moved = asByteString(`.moved-${process.pid}-${movedCount}`);
    succeed(renameAt(place, { directory: root, name: moved }), () => `rename ${name}`);
    return true;
  }
  const opened = succeed(openDirectoryAt(place), () => `openat ${name}`);
  let moved: boolean;
  try {
    moved = emptyDirectory(opened, { root, depth: depth + 1 });
  } finally {
    closeFile(opened);
  }
  succeed(removeDirectoryAt(directory, name), () => `unlinkat ${name}`);
  return moved;
}
