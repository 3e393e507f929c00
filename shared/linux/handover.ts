import { type ByteString, toByteString } from "./bytes.ts";
import { listDirectory } from "./directory.ts";
import { closeFile, OpenFlag, openAt, openResolved, Resolve, succeed, workingDirectory } from "./file.ts";
import { changeOwner, changeOwnerAt } from "./inode.ts";
import { Errno, SystemError } from "./libc.ts";
import { type FileStatus, FileType, findStatusAt, typeOf } from "./stat.ts";

/** Who a file belongs to, by numbers. */
export interface FileOwner {
  readonly uid: number;
  readonly gid: number;
}

/** How deep a tree that is handed over may be: the trees of our own processes have five levels. */
const depthMax = 32;

/**
 * Hands a directory over to another owner, with all that is in it, if it or something directly in it is not his yet. The directory itself comes last, so that a
 * handover that was cut off is done again.
 *
 * The former owner is not trusted: symbolic links are not followed, mounts not entered, and of files with several names only his own change
 * hands, since any file of the disk may have been linked into the tree.
 *
 * @param path - A directory whose parent only root may change. It must be there.
 * @returns Whether something had to be handed over.
 * @throws {@link SystemError}
 */
export function handOver(path: string, to: FileOwner): boolean {
  const directory = succeed(openAt(workingDirectory, toByteString(path), directoryFlags), () => `open ${path}`);
  try {
    const from = statusOf(directory);
    const isDone =
      belongsTo(from, to) &&
      listDirectory(directory).every((name) => {
        const status = findStatusAt(directory, name);
        return status === undefined || belongsTo(status, to);
      });
    if (!isDone) {
      handOverTree(directory, { from: from.user, to, depth: 0, shown: path });
    }
    return !isDone;
  } finally {
    closeFile(directory);
  }
}

const directoryFlags = OpenFlag.ReadOnly | OpenFlag.Directory | OpenFlag.NoFollow;
const self = toByteString("");

interface Handover {
  /** Owner of the top of the tree. */
  readonly from: number;
  readonly to: FileOwner;
  readonly depth: number;
  readonly shown: string;
}

function handOverTree(directory: number, handover: Handover): void {
  const { to, depth, shown } = handover;
  if (depth > depthMax) {
    throw new SystemError(Errno.NameTooLong, `chown ${shown}: more than ${depthMax} levels deep`);
  }
  for (const name of listDirectory(directory)) {
    handOverEntry(directory, name, { ...handover, depth: depth + 1, shown: `${shown}/${name}` });
  }
  succeed(changeOwner(directory, to.uid, to.gid), () => `chown ${shown}`);
}

function handOverEntry(directory: number, name: ByteString, handover: Handover): void {
  const { from, to, shown } = handover;
  const status = findStatusAt(directory, name);
  if (status === undefined) {
    return;
  }
  if (typeOf(status) === FileType.Directory) {
    const opened = openResolved(directory, name, directoryFlags, Resolve.NoCrossing | Resolve.NoSymlinks);
    if (opened === -Errno.CrossDevice) {
      return;
    }
    const inner = succeed(opened, () => `open ${shown}`);
    try {
      handOverTree(inner, handover);
    } finally {
      closeFile(inner);
    }
  } else if (status.links === 1 || status.user === from) {
    succeed(changeOwnerAt(directory, name, to.uid, to.gid), () => `chown ${shown}`);
  }
}

function statusOf(directory: number): FileStatus {
  const status = findStatusAt(directory, self);
  if (status === undefined) {
    throw new SystemError(Errno.NoEntry, "stat");
  }
  return status;
}

function belongsTo(status: FileStatus, { uid, gid }: FileOwner): boolean {
  return status.user === uid && status.group === gid;
}
