import { closeSync } from "node:fs";
import { mkdir, readlink, stat } from "node:fs/promises";
import { systemErrorCode, wrapFailure } from "#base/errors.ts";
import type { Mount } from "#gen/containerd/types/mount_pb.ts";
import { toByteString } from "#linux/bytes.ts";
import { openInRoot } from "#linux/file.ts";
import { readOnlyMounts } from "#linux/mount-options.ts";
import { withTemporaryMount } from "#linux/temporary-mount.ts";
import type { ImageVolume } from "./host-mounts.ts";

/** How long copying one volume may take, in milliseconds. */
const copyMsMax = 10 * 60_000;

/**
 * Makes the directories of volumes and fills them with what the image has at their places, owners, times and attributes kept.
 *
 * @param temporary - Directory for mounts.
 * @throws {@link FlotillaError} `unknown` when it can't be copied.
 * @source containerd v2.3.4 internal/cri/opts/container.go `WithVolumes`
 */
export async function fillVolumes(
  volumes: readonly ImageVolume[],
  mounts: readonly Mount[],
  temporary: string,
): Promise<void> {
  if (volumes.length === 0) {
    return;
  }
  for (const { directory } of volumes) {
    await mkdir(directory, { recursive: true, mode: 0o755 });
  }
  const plain = mounts.map(({ type, source, target, options }) => ({
    type,
    source,
    target,
    // Files are copied with the owners that they have in the image.
    options: options.filter((option) => !/^(?:uid|gid)map=/.test(option)),
  }));
  await withTemporaryMount(readOnlyMounts(plain), temporary, async (root) => {
    for (const { directory, mount } of volumes) {
      await copyFrom(root, mount.containerPath, directory);
    }
  });
}

async function copyFrom(root: string, place: string, directory: string): Promise<void> {
  let descriptor: number;
  try {
    descriptor = openInRoot(toByteString(root), toByteString(place.replace(/^\/+/, "") || "."));
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") {
      return;
    }
    throw wrapFailure(error, `rootpath on mountPath ${root}, volume ${place}`);
  }
  try {
    const source = await readlink(`/proc/self/fd/${descriptor}`);
    if ((await stat(source)).isDirectory()) {
      const { execa } = await import("execa");
      await execa("cp", ["--archive", "--no-target-directory", "--one-file-system", "--", source, directory], {
        timeout: copyMsMax,
      });
    }
  } catch (error) {
    throw wrapFailure(error, "taking runtime copy of volume");
  } finally {
    closeSync(descriptor);
  }
}
