import { existsSync } from "node:fs";
import { mkdir, rm, statfs } from "node:fs/promises";
import { release } from "node:os";
import { ErrorKind, errorMessage, FlotillaError } from "#base/errors.ts";
import { skipPlugin } from "#fleet/plugin.ts";
import { recordsEntryTypes } from "#linux/directory-entries.ts";
import { mountAll } from "#linux/mount.ts";
import { inUserNamespace } from "#linux/process.ts";
import { unmountAll } from "#linux/unmount.ts";

/** @source statfs(2) `TMPFS_MAGIC` */
const tmpfsMagic = 0x0102_1994;

/** Whether overlayfs must be told to keep its marks in `user.` attributes. @source containerd v2.3.4 plugins/snapshots/overlay/overlayutils/check.go `NeedsUserXAttr` */
export async function needsUserXattr(root: string): Promise<boolean> {
  return inUserNamespace() && isKernelSince(5, 11) && (await statfs(root)).type !== tmpfsMagic;
}

/** Whether overlayfs knows the option `index`, which must be off for layers that are used more than once. */
export function hasIndex(): boolean {
  return existsSync("/sys/module/overlay/parameters/index");
}

/** Whether overlayfs works on mounts with mapped ids. @source containerd v2.3.4 plugins/snapshots/overlay/overlayutils/check.go `SupportsIDMappedMounts` */
export function hasIdMappedMounts(): boolean {
  return isKernelSince(5, 19);
}

function isKernelSince(major: number, minor: number): boolean {
  const [ownMajor = 0, ownMinor = 0] = release()
    .split(".")
    .map((part) => Number.parseInt(part, 10));
  return ownMajor > major || (ownMajor === major && ownMinor >= minor);
}

/**
 * Makes sure that overlays can be mounted on directories below a root, by mounting one.
 *
 * @param options - What every overlay mount is to have, such as `index=off`.
 * @throws A skip when the machine has no overlayfs for this place; {@link FlotillaError} when the directory's file system
 *   hides the types of entries, or when it is the options that the kernel refuses.
 */
export async function requireOverlay(root: string, options: readonly string[]): Promise<void> {
  const check = `${root}/overlay-check`;
  const merged = `${check}/merged`;
  await unmountAll(merged, { detach: true });
  await rm(check, { recursive: true, force: true });
  const directories = ["lower1", "lower2", "upper", "work", "merged"].map((name) => `${check}/${name}`);
  const [lower1 = "", lower2 = "", upper = "", work = ""] = directories;
  try {
    for (const directory of directories) {
      await mkdir(directory, { recursive: true });
    }
    if (!recordsEntryTypes(check)) {
      throw new FlotillaError(
        ErrorKind.Unknown,
        `${root} does not support d_type. If the backing filesystem is xfs, please reformat with ftype=1 to enable d_type support`,
      );
    }
    const layers = [`workdir=${work}`, `upperdir=${upper}`, `lowerdir=${lower1}:${lower2}`];
    try {
      await tryOverlay([...layers, ...options], merged);
    } catch (error) {
      const refused = errorMessage(error);
      try {
        await tryOverlay(layers, merged);
      } catch (plainError) {
        throw skipPlugin(`overlayfs does not work on ${root}: ${errorMessage(plainError)}`);
      }
      throw new FlotillaError(ErrorKind.Unknown, `overlayfs refuses the options ${options.join(",")}: ${refused}`, {
        cause: error,
      });
    }
  } finally {
    await rm(check, { recursive: true, force: true });
  }
}

async function tryOverlay(options: readonly string[], target: string): Promise<void> {
  try {
    await mountAll([{ type: "overlay", source: "overlay", options }], target);
  } finally {
    await unmountAll(target);
  }
}
