import { closeSync, readlinkSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rmdir } from "node:fs/promises";
import { ErrorKind, errorMessage, FlotillaError, systemErrorCode, wrapFailure } from "#base/errors.ts";
import { toByteString } from "./bytes.ts";
import { openInRoot } from "./file.ts";
import { type Mount, mountAll } from "./mount.ts";
import { withoutVolatile } from "./mount-options.ts";
import { mountPointsBelow, unmountAll } from "./unmount.ts";

/**
 * Mounts a list of mounts on a new directory for as long as a function runs.
 *
 * Whatever happens the mounts are taken off and the directory goes; if it cannot be unmounted, it stays with what is in it.
 *
 * @param directory - Where the temporary directories go, `<root>/tmpmounts`; made when missing, for root alone.
 * @param use - Gets the path of the mounted tree.
 * @source containerd v2.3.4 core/mount/temp.go `WithTempMount`
 */
export async function withTemporaryMount<T>(
  mounts: readonly Mount[],
  directory: string,
  use: (root: string) => Promise<T> | T,
): Promise<T> {
  let root: string;
  try {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    root = await mkdtemp(`${directory}/containerd-mount`);
  } catch (error) {
    throw new FlotillaError(ErrorKind.Unknown, `failed to create temp dir: ${errorMessage(error)}`, { cause: error });
  }
  let outcome: { readonly value: T } | { readonly error: unknown };
  try {
    outcome = { value: await mountAndUse(mounts, root, use) };
  } catch (error) {
    outcome = { error };
  }
  try {
    await unmountList(mounts, root);
  } catch (error) {
    const failed = wrapFailure(error, `failed to unmount ${root}`);
    throw "error" in outcome ? wrapFailure(outcome.error, failed.message) : failed;
  } finally {
    // Never recursively: what is still mounted there is not ours to delete.
    await rmdir(root).catch(() => undefined);
  }
  if ("error" in outcome) {
    throw outcome.error;
  }
  return outcome.value;
}

async function mountAndUse<T>(
  mounts: readonly Mount[],
  root: string,
  use: (root: string) => Promise<T> | T,
): Promise<T> {
  try {
    await mountAll(withoutVolatile(mounts), root);
  } catch (error) {
    throw wrapFailure(error, `failed to mount ${root}`);
  }
  try {
    return await use(root);
  } catch (error) {
    throw wrapFailure(error, `mount callback failed on ${root}`);
  }
}

/** Takes off a list of mounts in reverse order; only the failure of the outermost of them counts. @source containerd v2.3.4 core/mount/mount.go `UnmountMounts` */
async function unmountList(mounts: readonly Mount[], root: string): Promise<void> {
  for (const [index, mount] of mounts.toReversed().entries()) {
    try {
      await unmountAll(resolveTarget(root, mount.target ?? ""));
    } catch (error) {
      if (index === 0) {
        throw error;
      }
    }
  }
}

function resolveTarget(root: string, target: string): string {
  if (target === "") {
    return root;
  }
  let descriptor: number;
  try {
    descriptor = openInRoot(toByteString(root), toByteString(target));
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") {
      return "";
    }
    throw error;
  }
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`);
  } finally {
    closeSync(descriptor);
  }
}

/**
 * Removes what temporary mounts a crash has left in a directory, at the start of a process: detaches every mount below it and
 * removes the empty directories.
 *
 * @returns What could not be removed, to be logged; none of it hinders the start.
 * @source containerd v2.3.4 core/mount/temp_unix.go `CleanupTempMounts`
 */
export async function cleanTemporaryMounts(directory: string): Promise<Error[]> {
  const failures: Error[] = [];
  const attempt = async (act: () => Promise<void>): Promise<void> => {
    try {
      await act();
    } catch (error) {
      if (systemErrorCode(error) !== "ENOENT") {
        failures.push(error instanceof Error ? error : new Error(errorMessage(error)));
      }
    }
  };
  for (const place of await mountPointsBelow(directory)) {
    await attempt(() => unmountAll(place, { detach: true }));
  }
  await attempt(async () => {
    for (const name of await readdir(directory)) {
      await attempt(() => rmdir(`${directory}/${name}`));
    }
  });
  return failures;
}
