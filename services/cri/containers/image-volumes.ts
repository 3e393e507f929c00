import { closeSync, readlinkSync } from "node:fs";
import { mkdir, readdir, rmdir, stat } from "node:fs/promises";
import { create } from "@bufbuild/protobuf";
import { ErrorKind, FlotillaError, isFailure, systemErrorCode, wrapFailure } from "#base/errors.ts";
import { quote } from "#base/quote.ts";
import { type ContainerConfig, ContainerConfigSchema, type Mount, MountSchema } from "#gen/runtime/v1/api_pb.ts";
import { toByteString } from "#linux/bytes.ts";
import { openInRoot } from "#linux/file.ts";
import { mountAll } from "#linux/mount.ts";
import { readMountInfo } from "#linux/mount-info.ts";
import { unmountAll } from "#linux/unmount.ts";
import { prepareRoot, removeRoot } from "../images/prepare-root.ts";
import { criCall } from "../peers.ts";
import type { Pod } from "../store/pod.ts";
import type { ContainerParts } from "./container-parts.ts";

/** What a container's mounts of images are made with. */
export interface ImageVolumeMaking {
  readonly pod: Pod;
  readonly snapshotter: string;
  /** Labels by which files belong to the users of the pod. */
  readonly labels: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
}

/**
 * Mounts the images that a container wants to see as volumes, once for all containers of its pod, and says so in its configuration.
 *
 * @returns The configuration with directories of the machine in place of images.
 * @throws {@link FlotillaError} `unknown` or `not_found`, in containerd's words.
 * @source containerd v2.3.4 internal/cri/server/container_image_mount.go `mutateMounts`
 */
export async function mountImages(
  parts: ContainerParts,
  config: ContainerConfig,
  making: ImageVolumeMaking,
): Promise<ContainerConfig> {
  if (config.mounts.every(({ image }) => image === undefined)) {
    return config;
  }
  const mounts: Mount[] = [];
  for (const mount of config.mounts) {
    try {
      mounts.push(mount.image === undefined ? mount : await mountImage(parts, mount, making));
    } catch (error) {
      throw wrapFailure(error, "failed to mount image volume: ImageVolumeMountFailed");
    }
  }
  return create(ContainerConfigSchema, { ...config, mounts });
}

async function mountImage(
  parts: ContainerParts,
  wish: Mount,
  { pod, snapshotter, labels, signal }: ImageVolumeMaking,
): Promise<Mount> {
  const reference = wish.image?.image ?? "";
  requirePossible(wish, reference);
  const image = parts.images.store.resolve(reference);
  const { digest } = await parts.images.store.targetOf(image.references[0] ?? reference, signal);
  const target = `${directoryOf(parts, pod.id)}/${digest.slice(digest.indexOf(":") + 1)}`;
  if (!(await readMountInfo()).some(({ mountPoint }) => mountPoint === target)) {
    const request = { key: target, image, snapshotter, lease: pod.id, labels, signal };
    const mounts = await prepareRoot({ peers: parts.peers, store: parts.images.store }, request).catch(
      async (error: unknown) => {
        if (isFailure(error, ErrorKind.AlreadyExists)) {
          return (await parts.peers.snapshots.mounts({ snapshotter, key: target }, criCall({ signal }))).mounts;
        }
        throw error;
      },
    );
    await mkdir(target, { recursive: true, mode: 0o755 });
    await mountAll(
      mounts.map(({ type, source, options }) => ({ type, source, target: "", options: withoutFlush(type, options) })),
      target,
    );
  }
  // Its users are those of the layers already.
  return create(MountSchema, {
    ...wish,
    hostPath: await inside(target, wish.imageSubPath),
    uidMappings: [],
    gidMappings: [],
  });
}

/** Nobody writes to the volume, so that nothing needs to reach the disk. @source Linux Documentation/filesystems/overlayfs.rst `volatile` */
function withoutFlush(type: string, options: readonly string[]): string[] {
  const isAsked = type !== "overlay" || options.includes("volatile") || options.includes("fsync=volatile");
  return isAsked ? [...options] : [...options, "volatile"];
}

function requirePossible({ hostPath, readonly }: Mount, reference: string): void {
  const fault =
    hostPath !== ""
      ? "hostpath must be empty while mount image"
      : !readonly
        ? "readonly must be true while mount image"
        : reference === ""
          ? "image not specified"
          : undefined;
  if (fault !== undefined) {
    throw new FlotillaError(ErrorKind.Unknown, fault);
  }
}

/** A directory of an image, which links do not lead out of. */
async function inside(target: string, path: string): Promise<string> {
  if (path === "") {
    return target;
  }
  const descriptor = openInRoot(toByteString(target), toByteString(path));
  try {
    const place = readlinkSync(`/proc/self/fd/${descriptor}`);
    if (!(await stat(place)).isDirectory()) {
      throw new FlotillaError(
        ErrorKind.Unknown,
        `only directory subpath is supported, subpath: ${quote(path)}, mountpoint: ${quote(target)}`,
      );
    }
    return place;
  } finally {
    closeSync(descriptor);
  }
}

/** Takes off the images that a pod's containers saw as volumes. @source containerd v2.3.4 internal/cri/server/container_image_mount.go `cleanupImageMounts` */
export async function unmountImages(parts: ContainerParts, podId: string): Promise<void> {
  const base = directoryOf(parts, podId);
  let names: string[];
  try {
    names = await readdir(base);
  } catch (error) {
    if (systemErrorCode(error) === "ENOENT") {
      return;
    }
    throw error;
  }
  const snapshotter = parts.pods.find(podId)?.runtime?.snapshotter || parts.images.settings.snapshotter;
  for (const name of names) {
    const target = `${base}/${name}`;
    await unmountAll(target);
    await removeRoot(parts.peers, { key: target, snapshotter });
    await rmdir(target);
  }
  await rmdir(base);
}

/** @source containerd v2.3.4 internal/cri/server/helpers.go `getImageVolumeBaseDir` */
function directoryOf({ settings }: ContainerParts, podId: string): string {
  return `${settings.stateDirectory}/image-volumes/${podId}`;
}
