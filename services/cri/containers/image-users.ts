import { closeSync, createReadStream, lstatSync, readlinkSync, type Stats } from "node:fs";
import { ErrorKind, failure, systemErrorCode } from "#base/errors.ts";
import type { Mount } from "#gen/containerd/types/mount_pb.ts";
import { asByteString, toByteString } from "#linux/bytes.ts";
import { openInRoot } from "#linux/file.ts";
import { findOption, readOnlyMounts } from "#linux/mount-options.ts";
import { withTemporaryMount } from "#linux/temporary-mount.ts";
import { findAttributeAt } from "#linux/xattr.ts";
import type { ImageUsers } from "./spec/process-user.ts";
import { parseGroups, parseUsers } from "./spec/user-database.ts";

/** Largest file of users that is read. @source containerd v2.3.4 pkg/oci/spec_opts.go `openUserFile` */
const fileBytesMax = 1024 * 1024;

/**
 * Reads the users and groups that a root file system names, inside of it: links lead nowhere else.
 *
 * Layers of an overlay are looked at directly where that gives the same answer, which saves a mount for each container.
 *
 * @param temporary - Directory for mounts.
 * @throws {@link FlotillaError} `resource_exhausted` for a file that is too large.
 * @source containerd v2.3.4 pkg/oci/spec_opts.go `withReadonlyFS`
 */
export async function readImageUsers(mounts: readonly Mount[], temporary: string): Promise<ImageUsers> {
  const layers = layersOf(mounts);
  const [users, groups] =
    layers === undefined ? [undefined, undefined] : [findInLayers(layers, "passwd"), findInLayers(layers, "group")];
  if (users !== undefined && groups !== undefined && users !== "unclear" && groups !== "unclear") {
    return await parse(users.path, groups.path);
  }
  const plain = mounts.map(({ type, source, target, options }) => ({ type, source, target, options: [...options] }));
  return await withTemporaryMount(readOnlyMounts(plain), temporary, async (root) =>
    parse(await findInside(root, "etc/passwd"), await findInside(root, "etc/group")),
  );
}

async function parse(passwd: string | undefined, group: string | undefined): Promise<ImageUsers> {
  return {
    users: passwd === undefined ? undefined : parseUsers(await readSmall(passwd)),
    groups: group === undefined ? undefined : parseGroups(await readSmall(group)),
  };
}

/** The directories of an overlay, the uppermost first, or of a bind mount; undefined for what is neither. */
function layersOf(mounts: readonly Mount[]): string[] | undefined {
  const [mount, ...more] = mounts;
  if (mount === undefined || more.length > 0) {
    return undefined;
  }
  if (mount.type === "bind") {
    return [mount.source];
  }
  if (mount.type !== "overlay") {
    return undefined;
  }
  const upper = findOption(mount.options, "upperdir");
  const lower = findOption(mount.options, "lowerdir") ?? "";
  return [...(upper === undefined ? [] : [upper]), ...lower.split(":").filter((directory) => directory !== "")];
}

/** Where a file of /etc is in layers; `unclear` where links or what overlayfs keeps would have to be followed. */
function findInLayers(layers: readonly string[], name: string): { readonly path: string | undefined } | "unclear" {
  for (const layer of layers) {
    const directory = statusOf(`${layer}/etc`);
    if (directory === undefined) {
      continue;
    }
    if (isWhiteout(directory)) {
      return { path: undefined };
    }
    const path = `${layer}/etc/${name}`;
    const file = directory.isDirectory() ? statusOf(path) : "unclear";
    if (file === "unclear") {
      return "unclear";
    }
    if (file !== undefined) {
      return isWhiteout(file) ? { path: undefined } : file.isFile() ? { path } : "unclear";
    }
    if (hasOverlayAttributes(layer)) {
      return "unclear";
    }
  }
  return { path: undefined };
}

function statusOf(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

/** @source kernel documentation, overlayfs.rst "whiteouts and opaque directories" */
function isWhiteout(status: Stats): boolean {
  return status.isCharacterDevice() && status.rdev === 0;
}

function hasOverlayAttributes(layer: string): boolean {
  const directory = openInRoot(toByteString(layer), asByteString("."));
  try {
    return ["trusted.overlay.opaque", "trusted.overlay.redirect"].some(
      (key) => findAttributeAt(directory, asByteString("etc"), asByteString(key)) !== undefined,
    );
  } finally {
    closeSync(directory);
  }
}

async function findInside(root: string, path: string): Promise<string | undefined> {
  let descriptor: number;
  try {
    descriptor = openInRoot(toByteString(root), toByteString(path));
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT" || systemErrorCode(error) === "ENOTDIR") {
      return undefined;
    }
    throw error;
  }
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`);
  } finally {
    closeSync(descriptor);
  }
}

async function readSmall(path: string): Promise<string> {
  if (statusOf(path)?.isFile() !== true) {
    throw failure(ErrorKind.InvalidArgument, `${path} is no file`);
  }
  const pieces: Buffer[] = [];
  let sizeBytes = 0;
  for await (const piece of createReadStream(path, { end: fileBytesMax })) {
    pieces.push(piece as Buffer);
    sizeBytes += (piece as Buffer).length;
  }
  if (sizeBytes > fileBytesMax) {
    throw failure(ErrorKind.ResourceExhausted, `${path} is larger than ${fileBytesMax} bytes`);
  }
  return Buffer.concat(pieces).toString("utf8");
}
