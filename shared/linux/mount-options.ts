import { ErrorKind, FlotillaError } from "#base/errors.ts";
import { quote } from "#base/quote.ts";

/** One mount as snapshotters give it and as the API carries it. */
export interface Mount {
  /** Type of the file system: `overlay`, `bind`, `tmpfs`, `fuse3.fuse-overlayfs`, ... */
  readonly type: string;
  /** Directory or device. */
  readonly source: string;
  /** Directory below the place where a list of mounts goes; "" for that place itself. */
  readonly target?: string;
  /** Options as in fstab(5). */
  readonly options: readonly string[];
}

/** @source linux/mount.h */
export const MountFlag = {
  ReadOnly: 0x1,
  NoSetuid: 0x2,
  NoDevices: 0x4,
  NoExecute: 0x8,
  Synchronous: 0x10,
  Remount: 0x20,
  MandatoryLocks: 0x40,
  DirectorySync: 0x80,
  NoAccessTime: 0x400,
  NoDirectoryAccessTime: 0x800,
  Bind: 0x1000,
  Recursive: 0x4000,
  Silent: 0x8000,
  Unbindable: 0x2_0000,
  Private: 0x4_0000,
  Slave: 0x8_0000,
  Shared: 0x10_0000,
  RelativeAccessTime: 0x20_0000,
  StrictAccessTime: 0x100_0000,
} as const;

/** Flags that change how mounts spread and that the kernel takes only in a call of their own. */
export const propagationFlags = MountFlag.Shared | MountFlag.Private | MountFlag.Slave | MountFlag.Unbindable;

const setFlags: Readonly<Record<string, number>> = {
  bind: MountFlag.Bind,
  dirsync: MountFlag.DirectorySync,
  mand: MountFlag.MandatoryLocks,
  noatime: MountFlag.NoAccessTime,
  nodev: MountFlag.NoDevices,
  nodiratime: MountFlag.NoDirectoryAccessTime,
  noexec: MountFlag.NoExecute,
  nosuid: MountFlag.NoSetuid,
  rbind: MountFlag.Bind | MountFlag.Recursive,
  relatime: MountFlag.RelativeAccessTime,
  remount: MountFlag.Remount,
  ro: MountFlag.ReadOnly,
  strictatime: MountFlag.StrictAccessTime,
  sync: MountFlag.Synchronous,
  private: MountFlag.Private,
  rprivate: MountFlag.Private | MountFlag.Recursive,
  shared: MountFlag.Shared,
  rshared: MountFlag.Shared | MountFlag.Recursive,
  slave: MountFlag.Slave,
  rslave: MountFlag.Slave | MountFlag.Recursive,
  unbindable: MountFlag.Unbindable,
  runbindable: MountFlag.Unbindable | MountFlag.Recursive,
};

const clearFlags: Readonly<Record<string, number>> = {
  async: MountFlag.Synchronous,
  atime: MountFlag.NoAccessTime,
  dev: MountFlag.NoDevices,
  diratime: MountFlag.NoDirectoryAccessTime,
  exec: MountFlag.NoExecute,
  nomand: MountFlag.MandatoryLocks,
  norelatime: MountFlag.RelativeAccessTime,
  nostrictatime: MountFlag.StrictAccessTime,
  rw: MountFlag.ReadOnly,
  suid: MountFlag.NoSetuid,
};

/** Options of a mount, sorted by who takes them. */
export interface ParsedMountOptions {
  /** Sum of {@link MountFlag}. */
  readonly flags: number;
  /** What the file system itself reads, in the order given. */
  readonly data: readonly string[];
  /** Whether the source is a file that needs a loop device. */
  readonly loop: boolean;
  /** Whether that device passes the page cache by. */
  readonly directIo: boolean;
  /** User ids to map, `container:host:size`, "" for none. */
  readonly uidmap: string;
  /** Group ids to map, "" for none. */
  readonly gidmap: string;
}

/**
 * Sorts fstab-like options into flags of mount(2) and data for the file system. A later option wins over an earlier one.
 *
 * The names of propagation (`rprivate`, `shared`, ...) are flags here, though containerd passes them on as data, which no
 * file system takes.
 *
 * @throws {@link FlotillaError} `unknown` for an option that the mount manager should have consumed.
 * @source containerd v2.3.4 core/mount/mount_linux.go `parseMountOptions`
 */
export function parseMountOptions(options: readonly string[]): ParsedMountOptions {
  let flags = 0;
  let loop = false;
  let uidmap = "";
  let gidmap = "";
  const data: string[] = [];
  for (const option of options) {
    const toSet = setFlags[option];
    const toClear = clearFlags[option];
    if (option.startsWith("X-containerd.")) {
      throw new FlotillaError(
        ErrorKind.Unknown,
        `internal mount option ${quote(option)} was not consumed by the mount manager`,
      );
    }
    if (toSet !== undefined) {
      flags |= toSet;
    } else if (toClear !== undefined) {
      flags &= ~toClear;
    } else if (option === "loop") {
      loop = true;
    } else if (option.startsWith("uidmap=")) {
      uidmap = option.slice("uidmap=".length);
    } else if (option.startsWith("gidmap=")) {
      gidmap = option.slice("gidmap=".length);
    } else if (option !== "defaults") {
      data.push(option);
    }
  }
  const directIo = loop && data.includes("direct-io");
  return {
    flags,
    data: directIo ? data.filter((option) => option !== "direct-io") : data,
    loop,
    directIo,
    uidmap,
    gidmap,
  };
}

/**
 * The same mounts without the option `volatile` of overlayfs, since a work directory that was mounted so cannot be mounted
 * a second time.
 *
 * @source containerd v2.3.4 core/mount/temp.go `RemoveVolatileOption`
 */
export function withoutVolatile(mounts: readonly Mount[]): Mount[] {
  return mounts.map((mount) =>
    mount.type === "overlay"
      ? { ...mount, options: mount.options.filter((option) => option !== "volatile" && option !== "fsync=volatile") }
      : mount,
  );
}

/**
 * The same mounts, read-only. An overlay, be it one that the mount manager still has to fill in, loses its upper and work directory, and the upper one becomes the topmost lower.
 *
 * @source containerd v2.3.4 core/mount/mount.go `readonlyMounts`
 */
export function readOnlyMounts(mounts: readonly Mount[]): Mount[] {
  return mounts.map((mount) => ({
    ...mount,
    options:
      mount.type === "overlay" || mount.type.endsWith("/overlay")
        ? readOnlyOverlay(mount.options)
        : [...mount.options.filter((option) => option !== "rw" && option !== "ro"), "ro"],
  }));
}

function readOnlyOverlay(options: readonly string[]): string[] {
  const upper = findOption(options, "upperdir");
  return options
    .filter((option) => !/^(?:upperdir|workdir|uidmap|gidmap)=/.test(option))
    .map((option) =>
      upper !== undefined && option.startsWith("lowerdir=")
        ? `lowerdir=${upper}:${option.slice("lowerdir=".length)}`
        : option,
    );
}

/** The value of the option `name=value`, if it is given. */
export function findOption(options: readonly string[], name: string): string | undefined {
  return options.find((option) => option.startsWith(`${name}=`))?.slice(name.length + 1);
}
