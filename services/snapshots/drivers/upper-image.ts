import { lstat, mkdir, rmdir } from "node:fs/promises";
import { untilDetached } from "#linux/loop-device.ts";
import { type Mount, mountAll, unmountAll } from "#linux/mount.ts";

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
 * What was written is in it for sure once no mount of it is left, which is waited for: the kernel writes the rest out a moment after the
 * last unmount. While a container still runs in it, it has what the container's file system has committed, since its journal is left alone.
 *
 * @param fallback - Given when nothing was ever written.
 * @source containerd v2.3.4 plugins/snapshots/erofs/erofs.go `commitBlock`
 */
export async function withImage<T>(
  { image, mountPoint, fallback }: { readonly image: string; readonly mountPoint: string; readonly fallback: string },
  use: (directory: string) => Promise<T>,
): Promise<T> {
  await untilDetached(image);
  await mkdir(mountPoint, { recursive: true, mode: 0o700 });
  try {
    await mountAll([{ type: "ext4", source: image, options: ["ro", "loop", "noload"] }], mountPoint);
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
