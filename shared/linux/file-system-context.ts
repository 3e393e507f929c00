import { closeSync, openSync, readSync } from "node:fs";
import { closeFile, OpenFlag } from "./file.ts";
import { checked, lastErrno, nativeFunction, SystemError } from "./libc.ts";
import { MountFlag } from "./mount-options.ts";

/** Numbers of the calls, the same on every architecture. @source asm-generic/unistd.h */
const callNumber = { moveMount: 429, fsopen: 430, fsconfig: 431, fsmount: 432 } as const;
const fsopenCall = nativeFunction("long syscall(long number, const char *type, unsigned int flags)");
const fsconfigCall = nativeFunction(
  "long syscall(long number, int context, unsigned int command, const char *key, const char *value, int extra)",
);
const fsmountCall = nativeFunction(
  "long syscall(long number, int context, unsigned int flags, unsigned int attributes)",
);
const moveMountCall = nativeFunction(
  "long syscall(long number, int fromDirectory, const char *from, int toDirectory, const char *to, unsigned int flags)",
);

/** @source linux/mount.h */
const closeOnExec = 1;
const command = { setFlag: 0, setString: 1, create: 6 } as const;
const moveEmptyPath = 4;
/** Attributes of the mount itself, by the flags of mount(2). */
const attributes: readonly (readonly [flag: number, attribute: number])[] = [
  [MountFlag.ReadOnly, 0x1],
  [MountFlag.NoSetuid, 0x2],
  [MountFlag.NoDevices, 0x4],
  [MountFlag.NoExecute, 0x8],
  [MountFlag.NoAccessTime, 0x10],
  [MountFlag.StrictAccessTime, 0x20],
  [MountFlag.NoDirectoryAccessTime, 0x80],
];

/** Longest value of an option, its final NUL included. @source fsconfig(2) */
const valueBytesMax = 256;

/** A file system that is to be mounted. */
export interface NewFileSystem {
  readonly type: string;
  readonly source: string;
  /** Sum of {@link MountFlag}. */
  readonly flags: number;
  /** `name` or `name=value`, one after the other; a name may come more than once. Together they may be longer than a page. */
  readonly data: readonly string[];
}

/**
 * Mounts a file system option by option, so that there may be any number of them.
 *
 * A value that is longer than the kernel takes has to be the path of a file that is there: it goes in by the short name that /proc has for
 * its descriptor.
 *
 * @throws {@link SystemError} with what the kernel says of the reason. `ENOTBLK`: the source has to be a block device.
 * @source fsopen(2), fsconfig(2), fsmount(2), move_mount(2)
 */
export function mountByOptions({ type, source, flags, data }: NewFileSystem, target: string): void {
  using files = new DisposableStack();
  const context = files.adopt(
    checked(fsopenCall(callNumber.fsopen, type, closeOnExec), () => `fsopen ${type}`),
    closeFile,
  );
  const set = (kind: number, key: string | null, value: string | null): void => {
    const result = fsconfigCall(callNumber.fsconfig, context, kind, key, value, 0);
    if (result < 0) {
      const errno = lastErrno();
      throw new SystemError(
        errno,
        ["fsconfig", key, ...readMessages(context)].filter((part) => part !== null).join(" "),
      );
    }
  };
  const shorten = (value: string): string => {
    if (Buffer.byteLength(value) < valueBytesMax) {
      return value;
    }
    const descriptor = files.adopt(openSync(value, OpenFlag.Path), closeSync);
    return `/proc/self/fd/${descriptor}`;
  };
  set(command.setString, "source", shorten(source));
  if ((flags & MountFlag.ReadOnly) !== 0) {
    set(command.setFlag, "ro", null);
  }
  for (const option of data) {
    const equals = option.indexOf("=");
    if (equals < 0) {
      set(command.setFlag, option, null);
    } else {
      set(command.setString, option.slice(0, equals), shorten(option.slice(equals + 1)));
    }
  }
  set(command.create, null, null);
  const attribute = attributes.reduce((sum, [flag, bit]) => ((flags & flag) === 0 ? sum : sum | bit), 0);
  const mounted = files.adopt(
    checked(fsmountCall(callNumber.fsmount, context, closeOnExec, attribute), () => `fsmount ${type}`),
    closeFile,
  );
  checked(moveMountCall(callNumber.moveMount, mounted, "", -1, target, moveEmptyPath), () => `move_mount ${target}`);
}

/** What the kernel noted of a context, one message at a read. @source fsopen(2), "Message retrieval interface" */
function readMessages(context: number): string[] {
  const messages: string[] = [];
  const memory = Buffer.alloc(1024);
  for (;;) {
    try {
      const length = readSync(context, memory);
      if (length === 0) {
        return messages;
      }
      messages.push(memory.toString("utf8", 0, length).trim());
    } catch {
      // ENODATA: there are no more.
      return messages;
    }
  }
}
