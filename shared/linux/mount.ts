import { closeSync, constants, openSync } from "node:fs";
import { ErrorKind, FlotillaError, failure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { toByteString } from "./bytes.ts";
import { OpenFlag, openInRoot } from "./file.ts";
import { mountByOptions } from "./file-system-context.ts";
import { mapLowerDirectories, mountWithIds } from "./id-mapped-mount.ts";
import { checked, nativeFunction } from "./libc.ts";
import { attachLoop, openWritingLoop } from "./loop-device.ts";
import {
  type Mount,
  MountFlag,
  type ParsedMountOptions,
  parseMountOptions,
  propagationFlags,
} from "./mount-options.ts";
import { unmountAll } from "./unmount.ts";
import { openUserNamespace } from "./user-namespace.ts";

export type { Mount } from "./mount-options.ts";

/** What mount(2) takes as data: one page, less a reserve for what is rewritten. @source containerd v2.3.4 core/mount/mount_linux.go `pagesize` */
const dataBytesMax = 4096;
const dataBytesReserve = 512;

const mountCall = nativeFunction(
  "int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)",
);

/**
 * Mounts a list of mounts, one after the other, below a directory that exists.
 *
 * After a failure the mounts before the failing one stay; {@link unmountAll} of every target undoes them.
 *
 * @param mounts - Parents before children. A `target` in one is a path below `target`; symbolic links in it are resolved as if
 *   `target` were the root directory.
 * @throws {@link SystemError} when the kernel refuses, {@link FlotillaError} for options that cannot be had.
 * @source containerd v2.3.4 core/mount/mount.go `All`
 */
export async function mountAll(mounts: readonly Mount[], target: string): Promise<void> {
  for (const mount of mounts) {
    await mountOne(mount, target);
  }
}

/**
 * Mounts one entry: the mount itself, then a change of propagation if the options ask for one, then, for a read-only bind
 * mount, the remount that makes it so.
 *
 * @source containerd v2.3.4 core/mount/mount_linux.go `(*Mount).mount`
 */
export async function mountOne(mount: Mount, target: string): Promise<void> {
  const options = parseMountOptions(mount.options);
  if (/^fuse3?\./.test(mount.type)) {
    throw failure(ErrorKind.NotImplemented, `mount type ${mount.type} with options ${mount.options.join(",")}`);
  }
  // One without the other is passed over, as by containerd.
  await (options.uidmap !== "" && options.gidmap !== ""
    ? mountMapped(mount, options, target)
    : mountPlain(mount, options, target));
}

/** Mounts with mapped ids: what is below an overlay, or the mount itself. */
async function mountMapped(mount: Mount, options: ParsedMountOptions, target: string): Promise<void> {
  using namespace = await openUserNamespace(options.uidmap, options.gidmap);
  if (mount.type !== "overlay") {
    await mountPlain(mount, options, target);
    const at = openTarget(mount, target);
    try {
      mountWithIds(at.path, at.path, { namespace: namespace.descriptor, readOnly: false });
    } finally {
      at.close();
    }
    return;
  }
  const lower = options.data.find((option) => option.startsWith("lowerdir="));
  if (lower === undefined) {
    throw new FlotillaError(
      ErrorKind.Unknown,
      "failed to prepare idmapped overlay: failed to parse overlay lowerdir's from given options",
    );
  }
  await using mapped = await mapLowerDirectories(lower, {
    namespace: namespace.descriptor,
    besides: target,
    unmount: (place) => unmountAll(place, { detach: true }),
  });
  const data = options.data.map((option) => (option === lower ? mapped.option : option));
  await mountPlain(mount, { ...options, data }, target);
}

async function mountPlain(mount: Mount, options: ParsedMountOptions, target: string): Promise<void> {
  if (options.loop && (options.flags & MountFlag.Remount) === 0) {
    const readOnly = (options.flags & MountFlag.ReadOnly) !== 0;
    // Some mount namespace may still have the file system mounted: by a second device neither would know what the other writes.
    const writing = readOnly ? undefined : await openWritingLoop(mount.source);
    // The mount keeps the device, and the device the file, once we have closed it.
    using device =
      writing ?? (await attachLoop(mount.source, { readOnly, autoclear: true, directIo: options.directIo }));
    mountBelow({ ...mount, source: device.path }, options, target);
    return;
  }
  mountBelow(mount, options, target);
}

/**
 * Mounts a file system on a directory, however many options it has.
 *
 * @throws {@link SystemError} `ENOTBLK` when the source is a file and has to be a block device.
 */
export function mountFileSystem({ type, source, options }: Mount, target: string): void {
  mountByOptions({ type, source, ...parseMountOptions(options) }, target);
}

/** Mounts on the target that the mount itself names, below the directory of the whole list. */
function mountBelow(mount: Mount, options: ParsedMountOptions, target: string): void {
  const at = openTarget(mount, target);
  try {
    mountAt(mount, options, at);
  } finally {
    at.close();
  }
}

function openTarget(mount: Mount, target: string): MountPoint & { close(): void } {
  if (mount.target === undefined || mount.target === "") {
    return { path: target, shown: target, close: () => undefined };
  }
  const descriptor = openInRoot(toByteString(target), toByteString(mount.target));
  return {
    path: `/proc/self/fd/${descriptor}`,
    shown: `${target}/${mount.target}`,
    close: () => closeSync(descriptor),
  };
}

interface MountPoint {
  readonly path: string;
  /** How error texts name it. */
  readonly shown: string;
}

function mountAt(mount: Mount, { flags, data }: ParsedMountOptions, target: MountPoint): void {
  const plainFlags = flags & ~propagationFlags;
  if ((flags & MountFlag.Remount) === 0 || data.length > 0) {
    if (mount.type === "overlay" && byteLength(data) >= dataBytesMax - dataBytesReserve) {
      mountLongOverlay(mount, plainFlags, data, target);
    } else {
      mountData(mount, plainFlags, data.join(","), target);
    }
  }
  if ((flags & propagationFlags) !== 0) {
    const spread = flags & (propagationFlags | MountFlag.Recursive | MountFlag.Silent);
    checked(mountCall("", target.path, "", spread, null), () => `change propagation of ${target.shown}`);
  }
  const readOnlyBind = MountFlag.Bind | MountFlag.ReadOnly;
  if ((plainFlags & readOnlyBind) === readOnlyBind) {
    checked(
      mountCall("", target.path, "", plainFlags | MountFlag.Remount, null),
      () => `remount ${target.shown} read-only`,
    );
  }
}

function mountData(mount: Mount, flags: number, data: string, target: MountPoint): void {
  if (Buffer.byteLength(data) >= dataBytesMax) {
    throw new FlotillaError(ErrorKind.Unknown, "mount options is too long");
  }
  checked(
    mountCall(mount.source, target.path, mount.type, flags, data === "" ? null : data),
    () =>
      `mount source: ${quote(mount.source)}, target: ${quote(target.shown)}, fstype: ${mount.type}, flags: ${flags}, data: ${quote(data)}, err`,
  );
}

/**
 * Mounts an overlay whose layers do not fit in the page that mount(2) takes. Each lower directory is opened, and its name
 * becomes the short one that /proc has for the descriptor. That holds up to about 200 layers; more go in one by one, up to the 500 that
 * the kernel takes (since 6.8). containerd changes the working directory of a thread instead, which in Node.js all threads would see.
 *
 * @source containerd v2.3.4 core/mount/mount_linux.go `compactLowerdirOption`
 */
function mountLongOverlay(mount: Mount, flags: number, data: readonly string[], target: MountPoint): void {
  const descriptors: number[] = [];
  const shorten = (directory: string): string => {
    const descriptor = openSync(directory, OpenFlag.Path | constants.O_DIRECTORY);
    descriptors.push(descriptor);
    return `/proc/self/fd/${descriptor}`;
  };
  try {
    const shortened = data.map((option) =>
      option.startsWith("lowerdir=")
        ? `lowerdir=${splitLayers(option.slice("lowerdir=".length)).map(shorten).join(":")}`
        : option,
    );
    if (byteLength(shortened) + shortened.length < dataBytesMax) {
      mountData(mount, flags, shortened.join(","), target);
      return;
    }
    const single = shortened.flatMap((option) =>
      option.startsWith("lowerdir=")
        ? option
            .slice("lowerdir=".length)
            .split(":")
            .map((layer) => `lowerdir+=${layer}`)
        : [option],
    );
    mountByOptions({ type: mount.type, source: mount.source, flags, data: single }, target.path);
  } finally {
    for (const descriptor of descriptors) {
      closeSync(descriptor);
    }
  }
}

/** Splits `a:b:c`, where `\:` stands for a colon in a name. */
function splitLayers(value: string): string[] {
  return (value.match(/(?:\\.|[^:\\])+/g) ?? []).map((layer) => layer.replace(/\\(.)/g, "$1"));
}

function byteLength(options: readonly string[]): number {
  return options.reduce((sum, option) => sum + Buffer.byteLength(option), 0);
}
