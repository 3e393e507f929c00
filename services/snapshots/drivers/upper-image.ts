import { lstat, mkdir, rmdir } from "node:fs/promises";
import { openWritingLoop } from "#linux/loop-device.ts";
import { type Mount, mountAll } from "#linux/mount.ts";
import { unmountAll } from "#linux/unmount.ts";

/** A file with the file system that an active snapshot is written in: `upper` and `work` of overlayfs lie in it. */
export interface UpperImage {
  readonly path: string;
  readonly sizeBytes: number;
  /** Whom the directory that is shown belongs to. */
  readonly user: number;
  readonly group: number;
}

/** Mounts such a file, which is made when it is not there; for the mount manager. */
export function imageMount({ path, sizeBytes }: UpperImage): Mount {
  const options = ["X-containerd.mkfs.fs=ext4", `X-containerd.mkfs.size=${sizeBytes}`, "rw", "loop"];
  return { type: "mkfs/ext4", source: path, options };
}

/** Shows the directory in it, when it was the first mount. */
export function directoryInImage(image: UpperImage): Mount {
  return {
    type: "format/mkdir/bind",
    source: "{{ mount 0 }}/upper",
    options: [upperOption(image), "rw", "rbind"],
  };
}

/** The options of an overlay that is written in it, when it was the first mount. */
export function writableInImage(image: UpperImage): string[] {
  return [
    upperOption(image),
    "X-containerd.mkdir.path={{ mount 0 }}/work:0755",
    "workdir={{ mount 0 }}/work",
    "upperdir={{ mount 0 }}/upper",
  ];
}

function upperOption({ user, group }: UpperImage): string {
  const owner = user === 0 && group === 0 ? "" : `:${user}:${group}`;
  return `X-containerd.mkdir.path={{ mount 0 }}/upper:0755${owner}`;
}

/**
 * Mounts the file system of an active snapshot read-only for as long as a function runs, and gives it the directory in it that holds what was
 * written.
 *
 * The journal is left alone. A mount that is still there, be it in the mount namespace of a container that is being started, has what was written and is not in the
 * file yet: then that file system is shown, and not the file.
 *
 * @param fallback - Given when nothing was ever written.
 * @source containerd v2.3.4 plugins/snapshots/erofs/erofs.go `commitBlock`
 */
export async function withImage<T>(
  { image, mountPoint, fallback }: { readonly image: string; readonly mountPoint: string; readonly fallback: string },
  use: (directory: string) => Promise<T>,
): Promise<T> {
  await mkdir(mountPoint, { recursive: true, mode: 0o700 });
  try {
    {
      using device = await openWritingLoop(image);
      const shown =
        device === undefined
          ? { source: image, options: ["ro", "loop", "noload"] }
          : { source: device.path, options: ["rw"] };
      await mountAll([{ type: "ext4", ...shown }], mountPoint);
    }
    const upper = `${mountPoint}/upper`;
    const isThere = await lstat(upper).then(
      () => true,
      () => false,
    );
    return await use(isThere ? upper : fallback);
  } finally {
    await unmountAll(mountPoint);
    await rmdir(mountPoint);
  }
}
