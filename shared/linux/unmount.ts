import { existsSync } from "node:fs";
import { realpath } from "node:fs/promises";
import { setTimeout as delay } from "node:timers/promises";
import { ErrorKind, errorMessage, FlotillaError, systemErrorCode } from "#base/errors.ts";
import { backgroundFunction, lastErrno, nativeFunction, SystemError } from "./libc.ts";
import { readMountInfo } from "./mount-info.ts";

/** How often and how long to wait for a busy mount. @source containerd v2.3.4 core/mount/mount_unix.go `unmount` */
const busyTries = 50;
const busyWaitMs = 50;

/** How to unmount. */
export interface UnmountOptions {
  /** Take the mount out of the tree at once and let go of it when nobody uses it any more (MNT_DETACH). */
  readonly detach?: boolean;
}

const detachFlag = 2;
const unmountPrototype = "int umount2(const char *target, int flags)";
const unmountCall = nativeFunction(unmountPrototype);
const unmountInBackground = backgroundFunction(unmountPrototype);

/**
 * Takes off the topmost mount of a place. What is no mount point is no error. A busy mount is tried again for 2.5 s.
 *
 * The call runs on a thread of the pool, since it may have to write out a whole file system.
 *
 * @throws {@link SystemError}
 * @source containerd v2.3.4 core/mount/mount_unix.go `Unmount`
 */
export async function unmount(target: string, options: UnmountOptions = {}): Promise<void> {
  await tryUnmount(target, options);
}

/** Unmounts once; answers whether there was something to unmount. */
async function tryUnmount(target: string, { detach = false }: UnmountOptions): Promise<boolean> {
  const flags = detach ? detachFlag : 0;
  for (let tries = 1; ; tries += 1) {
    const result = await unmountInBackground(target, flags);
    // The error number stays on the other thread; a call that failed there fails here the same way, and at once.
    if (result === 0 || unmountCall(target, flags) === 0) {
      return true;
    }
    const error = new SystemError(lastErrno(), `failed to unmount target ${target}`);
    if (error.code === "EINVAL") {
      return false;
    }
    if (error.code !== "EBUSY" || tries === busyTries) {
      throw error;
    }
    await delay(busyWaitMs);
  }
}

/**
 * Takes off every mount that is stacked on a place. A place that is no mount point or does not exist is no error.
 *
 * @source containerd v2.3.4 core/mount/mount_unix.go `UnmountAll`
 */
export async function unmountAll(target: string, options: UnmountOptions = {}): Promise<void> {
  if (target === "" || !existsSync(target)) {
    return;
  }
  while (await tryUnmount(target, options)) {
    // One layer less.
  }
}

/**
 * Takes off every mount at a place and below, deepest first. All are tried; the failure of the last one, the place itself,
 * counts.
 *
 * @source containerd v2.3.4 core/mount/mount_unix.go `UnmountRecursive`
 */
export async function unmountRecursive(target: string, options: UnmountOptions = {}): Promise<void> {
  const places = await mountPointsBelow(target);
  for (const [index, place] of places.entries()) {
    try {
      await unmountAll(place, options);
    } catch (error) {
      if (index === places.length - 1) {
        throw error;
      }
    }
  }
}

/** The mount points at a place and below it, deepest first; none when the place does not exist. */
export async function mountPointsBelow(target: string): Promise<string[]> {
  if (target === "") {
    return [];
  }
  let root: string;
  try {
    root = await realpath(target);
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") {
      return [];
    }
    throw new FlotillaError(ErrorKind.Unknown, errorMessage(error), { cause: error });
  }
  const points = new Set(
    (await readMountInfo())
      .map((mount) => mount.mountPoint)
      .filter((point) => root === "/" || point === root || point.startsWith(`${root}/`)),
  );
  return [...points].sort((left, right) => right.length - left.length);
}
